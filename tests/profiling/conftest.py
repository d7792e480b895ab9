"""Small real profiles for all tests of this folder, measured once."""

import pytest
from profiles import measured

from blipbench.profiling.record import Profile


@pytest.fixture(scope="session")
def profile() -> Profile:
    """Two parts in two precisions and at two batches, with their kernels."""
    return measured(["vit-mlp", "itm"], kernels=True)


@pytest.fixture(scope="session")
def several_ways() -> Profile:
    """A part done in every way, and the whole from files to scores with its stages."""
    return measured(["itm", "end-to-end"], batches=[2], ways=["fast", "plain", "transformers"])
