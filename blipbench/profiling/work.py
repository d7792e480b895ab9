"""One piece of work that can be timed, and what it needs."""

import dataclasses
from collections.abc import Callable

from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Work:
    """`call` does the work once and returns its output.

    `items` are the things done in a call, counted by the part's noun. `flops` are the FLOPs that they need
    (inference/flops.py). `moved` are the bytes that must be read and written at least: weights, inputs and outputs
    once each, nothing in between. `stages` are the seconds that each stage of the calls so far took, if there are any.
    """

    call: Callable[[], Tensor]
    items: int
    flops: float
    moved: float
    parameters: int
    stages: dict[str, list[float]] = dataclasses.field(default_factory=dict)
