"""The reference's retrieval evaluation, built from transformers' BLIP modules: the baseline of the speed benchmarks.

It works like salesforce/BLIP's train_retrieval.py. Every text is padded to 35 tokens. The image's states are repeated
for every pair, so every pair projects keys and values again. Both directions are scored separately, in float32.
"""

import copy
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BlipForImageTextRetrieval

from blipbench.models.checkpoint import Checkpoint
from blipbench.models.conversion import convert_checkpoint

MAX_TOKENS = 35
MATCH = 1


class ReferenceWay:
    def __init__(self, checkpoint: Checkpoint, folder: Path, pad_id: int, enc_id: int) -> None:
        convert_checkpoint(str(checkpoint.path), folder, "transformers", config=checkpoint.config)
        self.model = BlipForImageTextRetrieval.from_pretrained(folder).eval()
        self.pad_id, self.enc_id = pad_id, enc_id
        self.device = torch.device("cpu")

    def placed(self, device: torch.device, dtype: torch.dtype) -> "ReferenceWay":
        """A copy on this device, in this precision."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model).to(device, dtype)
        other.device = device
        return other

    def padded(self, input_ids: list[list[int]]) -> tuple[Tensor, Tensor]:
        ids = torch.full((len(input_ids), MAX_TOKENS), self.pad_id)
        for row, text in zip(ids, input_ids, strict=True):
            row[: len(text)] = torch.tensor(text)
        lengths = torch.tensor([len(text) for text in input_ids])
        return ids.to(self.device), (torch.arange(MAX_TOKENS) < lengths[:, None]).long().to(self.device)

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pixels [n, 3, S, S] -> states [n, T, width], unit-norm embeddings [n, embed_dim]."""
        states = torch.cat([self.model.vision_model(batch)[0] for batch in images.split(8)])
        return states, F.normalize(self.model.vision_proj(states[:, 0]), dim=-1)

    @torch.inference_mode()
    def embed_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return F.normalize(self.model.text_proj(states[:, 0]), dim=-1)

    @torch.inference_mode()
    def match(self, ids: Tensor, mask: Tensor, image_states: Tensor) -> Tensor:
        """ITM logits of 'match' [n]. image_states: [n, T, width], one image per pair, repeated if necessary."""
        ids = ids.clone()
        ids[:, 0] = self.enc_id
        states = self.model.text_encoder(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=image_states,
            encoder_attention_mask=torch.ones(image_states.shape[:2], dtype=torch.long, device=image_states.device),
        ).last_hidden_state
        logits: Tensor = self.model.itm_head(states[:, 0])
        return logits[:, MATCH]

    def evaluate(
        self, images: Tensor, input_ids: list[list[int]], k_test: int, every: int = 1
    ) -> tuple[Tensor, Tensor, float]:
        """Score matrices [images, texts] and [texts, images], with -100 for pairs that are no candidates, and seconds.

        With `every` = n, only each n-th query of both directions is reranked, and its time counts n times.
        """
        start = time.perf_counter()
        ids, mask = self.padded(input_ids)
        states, image_embeds = self.encode_images(images)
        similarity = image_embeds @ self.embed_texts(ids, mask).T
        i2t, t2i = torch.full_like(similarity, -100), torch.full_like(similarity.T, -100)
        encoded = time.perf_counter()
        for image in range(0, len(similarity), every):
            row = similarity[image]
            top = row.topk(min(k_test, len(row)))
            repeated = states[image].repeat(len(top.indices), 1, 1)
            i2t[image, top.indices] = self.match(ids[top.indices], mask[top.indices], repeated) + top.values
        for text in range(0, len(similarity.T), every):
            column = similarity[:, text]
            top = column.topk(min(k_test, len(column)))
            count = len(top.indices)
            one = self.match(ids[text].repeat(count, 1), mask[text].repeat(count, 1), states[top.indices])
            t2i[text, top.indices] = one + top.values
        return i2t, t2i, encoded - start + every * (time.perf_counter() - encoded)
