"""A cache of image tokens between stages, within a memory budget. Tokens that do not fit are computed again.

The cache is one tensor, allocated at the first image. Separate copies would lie between the buffers that a forward pass
frees, and would prevent their reuse.
"""

from torch import Tensor


class TokenCache:
    """For at most `images` images, all with the same number of tokens."""

    def __init__(self, budget_bytes: int, images: int) -> None:
        self._budget = budget_bytes
        self._images = images
        self._tokens: Tensor | None = None  # [places, T, width]
        self._place: dict[int, int] = {}

    def offer(self, image: int, tokens: Tensor) -> None:
        """Store a copy of one image's tokens [T, width] if there is room."""
        if self._tokens is None:
            places = min(self._images, self._budget // max(1, tokens.nbytes))
            self._tokens = tokens.new_empty((places, *tokens.shape))
        if image not in self._place and len(self._place) < len(self._tokens):
            place = self._place.setdefault(image, len(self._place))
            self._tokens[place] = tokens

    def __contains__(self, image: int) -> bool:
        return image in self._place

    def __getitem__(self, image: int) -> Tensor:
        """Raises KeyError for an image that is not in the cache."""
        place = self._place[image]
        assert self._tokens is not None  # it exists once an image has a place
        return self._tokens[place]
