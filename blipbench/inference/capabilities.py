"""What a protocol asks of a model, as types: any class that has these methods can be measured.

A model states what it can do by name in `capabilities`, and a task what it needs (recipes); a task whose needs are not
all there is refused before any work.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from blipbench.data.loader import Vision
from blipbench.device import Runtime
from blipbench.inference.matching import Matcher
from blipbench.inference.packing import Indices, TextBank

Floats = npt.NDArray[np.float64]


class DualEncoder(Protocol):
    """`embed_images` and `embed_texts`: unit-norm embeddings whose dot product is the similarity."""

    runtime: Runtime

    @property
    def capabilities(self) -> frozenset[str]: ...

    @property
    def vision(self) -> Vision: ...

    def tokenize(self, texts: list[str], max_tokens: int) -> list[list[int]]: ...

    def unknown_share(self, input_ids: list[list[int]]) -> float:
        """The share of the tokens that the vocabulary lacks."""
        ...

    def bank(self, input_ids: list[list[int]]) -> TextBank: ...

    def embed_images(self, pixels: Tensor) -> tuple[npt.NDArray[np.float32], Tensor]:
        """uint8 [n, 3, S, S] or [n, frames, 3, S, S] -> embeddings [n, embed_dim], image tokens [n, T, width]."""
        ...

    def embed_texts(self, bank: TextBank, which: Indices) -> npt.NDArray[np.float32]:
        """Texts of the bank -> embeddings [n, embed_dim]."""
        ...

    def image_flops(self, frames: int) -> float: ...

    def text_flops(self, lengths: npt.ArrayLike) -> Floats: ...

    def plain_scores(self, pixels: Tensor, input_ids: list[list[int]]) -> tuple[Tensor | None, Tensor]:
        """One image with n texts in float32, the plain way: logits of 'match' [n] (None where the model has no `match`)
        and similarities [n]."""
        ...


class MatchingEncoder(DualEncoder, Protocol):
    """`match` besides: one image and one text, read together."""

    def matcher(self, input_ids: list[list[int]]) -> Matcher: ...

    def match_flops(self, lengths: npt.ArrayLike, frames: int) -> Floats: ...

    def context_flops(self, frames: int) -> float: ...
