"""Image tokens kept between stages while they fit a budget; what does not fit is recomputed, so memory is bounded."""

from torch import Tensor


class TokenCache:
    def __init__(self, budget_bytes: int) -> None:
        self._left = budget_bytes
        self._tokens: dict[int, Tensor] = {}

    def offer(self, image: int, tokens: Tensor) -> None:
        """Keep a copy of one image's tokens [T, width] if there is room."""
        size = tokens.numel() * tokens.element_size()
        if size <= self._left and image not in self._tokens:
            self._left -= size
            self._tokens[image] = tokens.clone()

    def __contains__(self, image: int) -> bool:
        return image in self._tokens

    def __getitem__(self, image: int) -> Tensor:
        return self._tokens[image]
