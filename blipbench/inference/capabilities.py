"""The methods that a protocol requires of a model, as types: any class with these methods can be evaluated.

A model lists the capabilities that it supports in `capabilities`; a task lists the ones that it requires (see
the protocols' recipes). A task that requires a missing capability is refused before any work starts.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from blipbench.data.loader import Vision
from blipbench.device import Runtime
from blipbench.inference.attention import Indices
from blipbench.inference.matching import Matcher
from blipbench.inference.packing import TextBank

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
        """The share of tokens that are not in the vocabulary."""
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
        """Score one image with n texts in float32, without optimisations.

        Returns the logits of 'match' [n] (None if the model does not support `match`) and the similarities [n].
        """
        ...


class MatchingEncoder(DualEncoder, Protocol):
    """A dual encoder that also supports `match`, which reads one image and one text together."""

    def matcher(self, input_ids: list[list[int]]) -> Matcher: ...

    def match_flops(self, lengths: npt.ArrayLike, frames: int) -> Floats: ...

    def context_flops(self, frames: int) -> float: ...
