"""Fast BLIP embeddings and image-text matching on one device, for the retrieval protocol.

    runner.embed_images(pixels)     uint8 pixels -> unit-norm embeddings, and the image tokens that `match` reads
    runner.embed_texts(bank, which) packed texts -> unit-norm embeddings
    runner.matcher(texts)           -> Matcher: ITM logits of one image with many texts

`runner.plain` is the same model in float32, for the self-check.
"""

import copy

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from blipbench.data.images import normalise
from blipbench.device import Runtime, full_float32
from blipbench.inference import flops
from blipbench.inference.attention import Indices
from blipbench.inference.linear import fuse
from blipbench.inference.matching import Matcher
from blipbench.inference.packing import TextBank, pad
from blipbench.inference.text import PackedTextEncoder
from blipbench.inference.vision import FastImageEncoder
from blipbench.models.blip import BlipRetrieval
from blipbench.models.tokenizer import Tokenizer


class BlipRunner:
    capabilities = frozenset({"embed_images", "embed_texts", "match"})

    def __init__(self, model: BlipRetrieval, tokenizer: Tokenizer, runtime: Runtime) -> None:
        self.config = model.config
        self.tokenizer = tokenizer
        self.runtime = runtime
        self.plain = model.eval().requires_grad_(False).to(runtime.device)
        fast = copy.deepcopy(self.plain).to(runtime.dtype)
        self.text_encoder = PackedTextEncoder(fast.text_encoder)
        self.text_proj = fuse(fast.text_proj)
        self.itm_head = fast.itm_head
        self.vision_proj = fuse(fast.vision_proj)
        self.vision = FastImageEncoder(fast.visual_encoder, self.config.vision, runtime)

    def tokenize(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        """Token ids of each text, from [CLS] to [SEP], without padding."""
        return self.tokenizer.encode(texts, max_tokens)

    def unknown_share(self, input_ids: list[list[int]]) -> float:
        return self.tokenizer.unknown_share(input_ids)

    def bank(self, input_ids: list[list[int]]) -> TextBank:
        return TextBank(input_ids, self.runtime.device)

    @torch.inference_mode()
    def embed_images(self, pixels: Tensor) -> tuple[npt.NDArray[np.float32], Tensor]:
        """uint8 [n, 3, S, S] or [n, frames, 3, S, S] -> embeddings [n, embed_dim], tokens [n, frames * T, width].

        A clip's embedding is the normalised mean of its frames' projections.
        """
        clips = pixels if pixels.ndim == 5 else pixels[:, None]
        tokens = self.vision.encode(clips)  # [n, frames, T, width]
        projected = self.vision_proj(tokens[:, :, 0].flatten(0, 1)).float().unflatten(0, tokens.shape[:2]).mean(1)
        return F.normalize(projected, dim=-1).cpu().numpy(), tokens.flatten(1, 2)

    @torch.inference_mode()
    def embed_texts(self, bank: TextBank, which: Indices) -> npt.NDArray[np.float32]:
        """Texts of the bank, starting with [CLS] -> embeddings [n, embed_dim]."""
        embeddings = np.empty((len(which), self.config.embed_dim), np.float32)
        for chunk in bank.chunks(which, self.runtime.batch_tokens):
            hidden = self.text_encoder.first_layer(bank.input_ids[chunk.tokens], chunk)
            states = self.text_encoder.rest(hidden, chunk, context=None)
            embeddings[chunk.order] = F.normalize(self.text_proj(states).float(), dim=-1).cpu().numpy()
        return embeddings

    @torch.inference_mode()
    def matcher(self, input_ids: list[list[int]]) -> Matcher:
        """ITM scoring of these texts. [ENC] replaces [CLS], as in the reference's retrieval evaluation."""
        bank = self.bank([[self.tokenizer.enc_id, *ids[1:]] for ids in input_ids])
        runtime = self.runtime
        return Matcher(self.text_encoder, self.itm_head, bank, runtime.batch_tokens, runtime.cache_bytes // 2)

    def image_flops(self, frames: int) -> float:
        return frames * self.vision.flops

    def text_flops(self, lengths: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return flops.text_flops(self.config, lengths)

    def match_flops(self, lengths: npt.ArrayLike, frames: int) -> npt.NDArray[np.float64]:
        return flops.match_flops(self.config, lengths, frames * self.vision.num_tokens)

    def context_flops(self, frames: int) -> float:
        return flops.context_flops(self.config, frames * self.vision.num_tokens)

    @full_float32()
    @torch.inference_mode()
    def plain_scores(self, pixels: Tensor, input_ids: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Score one image or clip (uint8 [1, ...]) with n texts as the reference does.

        In float32, with padding and masks, and the image's states repeated for every pair. Returns the ITM logits of
        'match' [n] and the ITC similarities [n], on the CPU.
        """
        model, device = self.plain, self.runtime.device
        frames = pixels.shape[1] if pixels.ndim == 5 else 1
        image_embeds = model.encode_images(normalise(pixels.to(device)))
        ids, mask = pad(input_ids, self.tokenizer.pad_id)
        ids, mask = ids.to(device), mask.to(device)
        texts = model.project_texts(ids, mask)
        itc = model.project_images(image_embeds, frames) @ texts.T
        ids[:, 0] = self.tokenizer.enc_id
        itm = model.match_logits(ids, mask, image_embeds.expand(len(ids), -1, -1))[:, 1]
        return itm.cpu(), itc[0].cpu()
