"""The image encoder ready to evaluate: uint8 pixels in, tokens in the run's precision out, on its device."""

import torch
from torch import Tensor

from blipbench.data.images import normalise
from blipbench.device import Runtime
from blipbench.inference import flops
from blipbench.inference.linear import make_fast
from blipbench.models.config import VisionConfig
from blipbench.models.vit import ImageEncoder


class FastImageEncoder:
    """`encoder` must be the caller's own copy, in the run's precision: its layers are replaced by fast ones."""

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
        """Images are resized to a square, as the loader does by itself."""

    @property
    def num_tokens(self) -> int:
        """Of one image or frame."""
        return self.config.num_tokens

    @property
    def batch(self) -> int:
        """Images in one forward pass."""
        return max(1, self.runtime.batch_tokens // self.num_tokens)

    @property
    def flops(self) -> float:
        """Of one image or frame."""
        return flops.image_flops(self.config)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 [n, 3, S, S] or [n, frames, 3, S, S] -> [n, T, width] or [n, frames, T, width]."""
        images = pixels.flatten(0, -4)  # [n * frames, 3, S, S]
        tokens = torch.cat([self._encode(batch) for batch in images.split(self.batch)])
        return tokens.unflatten(0, pixels.shape[:-3])

    def _encode(self, pixels: Tensor) -> Tensor:
        images = normalise(pixels.to(self.runtime.device, non_blocking=True))
        return self.encoder(images.to(self.runtime.dtype))
