"""CLIP and SigLIP embeddings on one device, with the model's own preprocessing.

Images go through the model's image processor, except that its rescaling and normalisation run on the device. CLIP
resizes the shorter side to S pixels and crops the central square; SigLIP resizes the image to a square. Texts go
through the model's tokenizer. CLIP's texts are grouped by exact length, without padding, because its causal text
encoder never reads the padding. SigLIP's texts are padded to the full length, because it was trained with the padding.
A video clip's embedding is the normalised mean of its frames' projections, as in BLIP.
"""

import copy
import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from blipbench.device import Runtime, full_float32
from blipbench.inference.attention import Indices
from blipbench.inference.linear import make_fast
from blipbench.inference.packing import TextBank, pad
from blipbench.models.clip import CAPABILITIES, ClipCheckpoint


@dataclasses.dataclass(frozen=True)
class ProcessorFit:
    """The geometry of transformers' image processor: an RGB image to uint8 [3, S, S]. Workers can pickle it."""

    processor: Any

    def __call__(self, image: Image.Image) -> Tensor:
        done = self.processor(images=image, do_rescale=False, do_normalize=False, return_tensors="pt")
        pixels: Tensor = done["pixel_values"][0]
        return pixels.to(torch.uint8)


@dataclasses.dataclass(frozen=True)
class ClipVision:
    image_size: int
    batch: int
    fit: ProcessorFit


class ClipRunner:
    capabilities = CAPABILITIES

    def __init__(self, checkpoint: ClipCheckpoint, runtime: Runtime) -> None:
        self.checkpoint = checkpoint
        self.runtime = runtime
        self.plain = checkpoint.model.requires_grad_(False).to(runtime.device)
        self.fast = copy.deepcopy(self.plain).to(runtime.dtype)
        make_fast(self.fast)
        vision = checkpoint.config.vision
        batch = max(1, runtime.batch_tokens // vision.num_tokens)
        self.vision = ClipVision(vision.image_size, batch, ProcessorFit(checkpoint.processor))

    def tokenize(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        """Token ids of each text in the form the model was trained on, at most `max_tokens` or the model's limit."""
        length = min(max_tokens, self.checkpoint.max_tokens)
        padding = "max_length" if self.checkpoint.pads_texts else False
        # One by one, because the batch form starts a thread pool, and a process with threads must not fork workers.
        return [
            self.checkpoint.tokenizer(text, truncation=True, max_length=length, padding=padding)["input_ids"]
            for text in texts
        ]

    def unknown_share(self, input_ids: list[list[int]]) -> float:
        """Always 0: CLIP and SigLIP split unknown words into bytes."""
        return 0.0

    def bank(self, input_ids: list[list[int]]) -> TextBank:
        return TextBank(input_ids, self.runtime.device)

    @torch.inference_mode()
    def embed_images(self, pixels: Tensor) -> tuple[npt.NDArray[np.float32], Tensor]:
        """uint8 [n, 3, S, S] or [n, frames, 3, S, S] -> embeddings [n, embed_dim], tokens [n, frames * T, width]."""
        clips = pixels if pixels.ndim == 5 else pixels[:, None]
        images = clips.flatten(0, 1)
        encoded = [
            self._encode_images(self.fast, batch.to(self.runtime.device)) for batch in images.split(self.vision.batch)
        ]
        projected = torch.cat([projected for projected, _ in encoded]).float().unflatten(0, clips.shape[:2]).mean(1)
        tokens = torch.cat([tokens for _, tokens in encoded]).unflatten(0, clips.shape[:2])  # [n, frames, T, width]
        return F.normalize(projected, dim=-1).cpu().numpy(), tokens.flatten(1, 2)

    @torch.inference_mode()
    def embed_texts(self, bank: TextBank, which: Indices) -> npt.NDArray[np.float32]:
        """Texts of the bank -> embeddings [n, embed_dim]."""
        embeddings = np.empty((len(which), self.checkpoint.config.embed_dim), np.float32)
        for chunk in bank.chunks(which, self.runtime.batch_tokens):
            ids, done = bank.input_ids[chunk.tokens], 0
            projected = []
            for count, length in chunk.groups:
                group = ids[done : done + count * length].view(count, length)
                projected.append(self._encode_texts(self.fast, group, None))
                done += count * length
            embeddings[chunk.order] = F.normalize(torch.cat(projected).float(), dim=-1).cpu().numpy()
        return embeddings

    def image_flops(self, frames: int) -> float:
        config = self.plain.config.vision_config
        tokens, patches = self.checkpoint.config.vision.num_tokens, (config.image_size // config.patch_size) ** 2
        embed = 2 * patches * config.num_channels * config.patch_size**2 * config.hidden_size
        return frames * float(embed + _transformer_flops(config, np.array(tokens, np.float64)))

    def text_flops(self, lengths: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return _transformer_flops(self.plain.config.text_config, np.asarray(lengths, np.float64))

    @full_float32()
    @torch.inference_mode()
    def plain_scores(self, pixels: Tensor, input_ids: list[list[int]]) -> tuple[None, Tensor]:
        """Score one image or clip (uint8 [1, ...]) with n texts in float32, without optimisations.

        The texts are padded and masked as by transformers' processor. Returns None for the ITM logits, and the
        similarities [n] on the CPU.
        """
        device = self.runtime.device
        frames, _ = self._encode_images(self.plain, pixels.flatten(0, -4).to(device))
        ids, mask = pad(input_ids, self.checkpoint.tokenizer.pad_token_id)
        texts = self._encode_texts(self.plain, ids.to(device), mask.to(device))
        similarity = F.normalize(texts, dim=-1) @ F.normalize(frames.mean(0), dim=-1)
        return None, similarity.cpu()

    def _encode_images(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [n, 3, S, S] -> unnormalised projections [n, embed_dim] and states [n, T, width]."""
        processor = self.checkpoint.processor
        images = pixels.float()
        if processor.do_rescale:
            images = images * processor.rescale_factor
        if processor.do_normalize:
            mean, std = (images.new_tensor(x).view(3, 1, 1) for x in (processor.image_mean, processor.image_std))
            images = (images - mean) / std
        out = model.vision_model(pixel_values=images.to(next(model.parameters()).dtype))
        return _project(model, "visual_projection", out.pooler_output), out.last_hidden_state

    def _encode_texts(self, model: Any, ids: Tensor, mask: Tensor | None) -> Tensor:
        """ids [n, tokens] -> unnormalised projections [n, embed_dim]."""
        out = model.text_model(input_ids=ids, attention_mask=mask)
        return _project(model, "text_projection", out.pooler_output)


def _project(model: Any, name: str, pooled: Tensor) -> Tensor:
    """CLIP projects the pooled state; SigLIP's pooled state needs no projection."""
    projected: Tensor = getattr(model, name)(pooled) if hasattr(model, name) else pooled
    return projected


def _transformer_flops(config: Any, tokens: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """FLOPs of all layers over sequences of `tokens` tokens, without pooling and projection (about 1% more)."""
    width = config.hidden_size
    per_token = 8 * width**2 + 4 * width * config.intermediate_size
    flops: npt.NDArray[np.float64] = config.num_hidden_layers * (tokens * per_token + 4 * tokens**2 * width)
    return flops
