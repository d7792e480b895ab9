"""The fast image encoder: takes uint8 pixels and returns tokens in the run's precision, on its device."""

import torch
from torch import Tensor

from blipbench.data.images import normalise
from blipbench.device import Runtime, fixed_shapes
from blipbench.inference import flops
from blipbench.inference.linear import make_fast
from blipbench.models.config import VisionConfig
from blipbench.models.vit import ImageEncoder


class FastImageEncoder:
    """`encoder` must be a copy in the run's precision: its linear layers are replaced in place."""

    def __init__(self, encoder: ImageEncoder, config: VisionConfig, runtime: Runtime) -> None:
        make_fast(encoder)
        self.encoder = encoder
        self.config = config
        self.runtime = runtime

    @property
    def image_size(self) -> int:
        return self.config.image_size

    @property
    def fit(self) -> None:
        """None: the loader resizes images to a square by default."""

    @property
    def num_tokens(self) -> int:
        """Tokens of one image or frame."""
        return self.config.num_tokens

    @property
    def batch(self) -> int:
        """Images per forward pass."""
        return max(1, self.runtime.batch_tokens // self.num_tokens)

    @property
    def flops(self) -> float:
        """FLOPs of one image or frame."""
        return flops.image_flops(self.config)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 [n, 3, S, S] or [n, frames, 3, S, S] -> [n, T, width] or [n, frames, T, width]."""
        images = pixels.flatten(0, -4)  # [n * frames, 3, S, S]
        tokens = torch.cat([self._encode(batch) for batch in images.split(self.batch)])
        return tokens.unflatten(0, pixels.shape[:-3])

    def _encode(self, pixels: Tensor) -> Tensor:
        images = normalise(pixels.to(self.runtime.device, non_blocking=True))
        with fixed_shapes():
            return self.encoder(images.to(self.runtime.dtype))
