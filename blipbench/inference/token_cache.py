"""Image tokens kept between stages while they fit a budget; what does not fit is recomputed, so memory is bounded.

They lie in one tensor made at the first image: copies made one by one, between the buffers that a forward pass frees,
would keep those from being reused.
"""

from torch import Tensor


class TokenCache:
    """For at most `images` images, all with equally many tokens."""

    def __init__(self, budget_bytes: int, images: int) -> None:
        self._budget = budget_bytes
        self._images = images
        self._tokens: Tensor | None = None  # [places, T, width]
        self._place: dict[int, int] = {}

    def offer(self, image: int, tokens: Tensor) -> None:
        """Keep a copy of one image's tokens [T, width] if there is room."""
        if self._tokens is None:
            places = min(self._images, self._budget // max(1, tokens.nbytes))
            self._tokens = tokens.new_empty((places, *tokens.shape))
        if image not in self._place and len(self._place) < len(self._tokens):
            place = self._place.setdefault(image, len(self._place))
            self._tokens[place] = tokens

    def __contains__(self, image: int) -> bool:
        return image in self._place

    def __getitem__(self, image: int) -> Tensor:
        """Raises KeyError for an image that was not kept."""
        place = self._place[image]
        assert self._tokens is not None  # there is a place in it
        return self._tokens[place]
