"""One small real profile for all tests of this folder."""

import pytest
from profiles import measured

from blipbench.profiling.record import Profile


@pytest.fixture(scope="session")
def small_profile() -> Profile:
    """Two parts in two precisions and at two batches, with their kernels."""
    return measured(["vit", "itm"], kernels=True)
