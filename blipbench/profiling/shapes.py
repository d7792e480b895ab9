"""What a profile is about: the sizes of the work, and random pixels and texts of these sizes."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from blipbench.inference.attention import Indices
from blipbench.inference.packing import pad
from blipbench.models.tokenizer import Tokenizer

COCO_TOKENS = 12.5  # mean length of COCO's captions with [CLS] and [SEP]
SHORTEST, LONGEST = 8, 35


@dataclasses.dataclass(frozen=True)
class Shapes:
    """`batch` images of `image_size` pixels, each with `texts_per_image` texts of `tokens` tokens on average."""

    image_size: int
    batch: int
    tokens: float
    texts_per_image: int

    @property
    def texts(self) -> int:
        return self.batch * self.texts_per_image

    @property
    def owner(self) -> Indices:
        """The image of each text."""
        return np.repeat(np.arange(self.batch), self.texts_per_image)


def lengths_of(shapes: Shapes) -> Indices:
    """The length of each text, with [CLS] and [SEP]: spread like those of COCO's captions, the same in every call."""
    mean = shapes.tokens
    if mean <= SHORTEST:
        return np.full(shapes.texts, max(3, round(mean)), np.int64)
    spread = np.random.default_rng(0).gamma(9.0, (mean - 7.0) / 9.0, shapes.texts) + 7.0
    lengths: Indices = np.clip(np.round(spread), SHORTEST, max(LONGEST, round(2 * mean))).astype(np.int64)
    return lengths


def random_texts(shapes: Shapes, first: int, tokenizer: Tokenizer) -> list[list[int]]:
    """Token ids of each text, from the token `first` to [SEP]."""
    rng, words = np.random.default_rng(1), tokenizer.vocab_size - 2  # without [DEC] and [ENC]
    several = [rng.integers(1, words, length - 2).tolist() for length in lengths_of(shapes).tolist()]
    return [[first, *ids, tokenizer.sep_id] for ids in several]


def padded_texts(shapes: Shapes, first: int, tokenizer: Tokenizer, device: torch.device) -> tuple[Tensor, Tensor]:
    """The same texts as ids and mask [texts, 35], padded as in the reference's evaluation of retrieval."""
    texts = random_texts(shapes, first, tokenizer)
    ids, mask = pad(texts, tokenizer.pad_id, max(LONGEST, *(len(text) for text in texts)))
    return ids.to(device), mask.to(device)


def random_pixels(shapes: Shapes, device: torch.device) -> Tensor:
    """uint8 [batch, 3, S, S]."""
    generator = torch.Generator().manual_seed(0)
    size = (shapes.batch, 3, shapes.image_size, shapes.image_size)
    return torch.randint(0, 256, size, generator=generator, dtype=torch.uint8).to(device)


def random_tokens(count: int, num_tokens: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Image tokens [count, num_tokens, width] as large as a ViT's."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, num_tokens, width, generator=generator).to(device, dtype)
