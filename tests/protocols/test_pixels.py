"""How long the device waited for images is known of every batch."""

import time
from collections.abc import Iterator

import pytest
import torch

from blipbench.data.loader import PixelBatch
from blipbench.protocols.base import Waited
from blipbench.protocols.pixels import waiting_for


def test_the_time_until_each_batch_comes_but_not_the_work_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def slow_batches() -> Iterator[PixelBatch]:
        nonlocal now
        for _ in range(2):
            now += 5
            yield PixelBatch([0], torch.zeros(1, 3, 4, 4, dtype=torch.uint8), [])

    waited, batches = [], 0
    for outcome in waiting_for(slow_batches()):
        if isinstance(outcome, Waited):
            waited.append(outcome.seconds)
        else:
            batches += 1
            now += 100
    assert batches == 2
    assert waited == [5, 5, 0]
