"""Fixtures that many tests share: the goldens, and the tiny golden retrieval model ready to run."""

import pytest
from golden_files import complete_goldens
from goldens import GOLDEN, Golden

from blipbench.device import make_runtime
from blipbench.inference.blip import BlipRunner
from blipbench.models.tokenizer import load_tokenizer


def pytest_configure() -> None:
    complete_goldens()


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()


@pytest.fixture(scope="session")
def tiny_runner(golden: Golden) -> BlipRunner:
    """The golden retrieval checkpoint in float32 on the CPU, with its own vocabulary."""
    return BlipRunner(golden.retrieval_model(), load_tokenizer(GOLDEN / "vocab.txt"), make_runtime("cpu", "fp32"))
