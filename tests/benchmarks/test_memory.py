"""Memory does not grow with the data: retrieval runs with 1,000 and with 4,000 images have the same peak memory.

`make bench` runs this test: two real processes with generated images, a tiny model and k_test 64.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command_line import command, result_of
from make_checkpoint import make_checkpoint

from blipbench.config.models import load_model_config
from blipbench.shapes import make_shapes

pytestmark = pytest.mark.benchmark_suite

FEW, MANY = 1_000, 4_000
ALLOWED_GROWTH = 1.15


def run_over(images: int, checkpoint: Path, folder: Path) -> dict[str, Any]:
    """The result of `blipbench run retrieval_shapes` with `images` test images."""
    data, out = folder / f"shapes_{images}", folder / f"runs_{images}"
    make_shapes(data, images, seed=0, splits=("test",))
    flags = {"--ckpt": checkpoint, "--data": data, "--out": out, "--k-test": 64, "--device": "cpu"}
    done = subprocess.run(
        command(["run", "retrieval_shapes", *(str(part) for flag in flags.items() for part in flag)]),
        capture_output=True,
        text=True,
        timeout=3600,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert done.returncode == 0, done.stderr
    return result_of(out, "retrieval_shapes", checkpoint.stem)


def test_peak_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(load_model_config("tiny"), tmp_path / "tiny.pth", seed=0)
    few, many = (run_over(images, checkpoint, tmp_path) for images in (FEW, MANY))
    peaks = [result["memory"]["peak_rss_bytes"] for result in (few, many)]
    for images, result, peak in zip((FEW, MANY), (few, many), peaks, strict=True):
        pairs, seconds = result["timing"]["stages"][-1]["items"], result["timing"]["total_seconds"]
        print(f"\n{images:,} images, {pairs:,} pairs: peak RSS {peak / 2**20:,.0f} MiB, {seconds:.0f} s")
    print(f"growth {peaks[1] / peaks[0]:.3f}")
    assert many["data"]["counts"]["images"] == MANY
    assert peaks[1] <= ALLOWED_GROWTH * peaks[0]
