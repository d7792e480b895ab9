"""What a user with the official files does, at its real size: an official-layout base checkpoint as training leaves it
(momentum copies, queues), COCO's file names and formats, 384 px, and the headline command as a process of its own.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import result_of, run_processes
from make_checkpoint import make_checkpoint
from PIL import Image

from blipbench.config.models import load_model_config

IMAGES = 4
CAPTIONS = ("A dog", "Two cats", "A very large brown bear", "A man in a red jacket", "Three old wooden boats")
CHECKPOINT = "model_base_retrieval_coco.pth"


def write_coco(root: Path) -> None:
    """The test split as COCO's comes: photo-sized JPEGs in val2014/, five captions each."""
    rng = np.random.default_rng(0)
    (root / "val2014").mkdir(parents=True)
    (root / "annotations").mkdir()
    records = []
    for number in rng.integers(1, 580_000, IMAGES):
        name = f"val2014/COCO_val2014_{number:012d}.jpg"
        blotches = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        blotches.resize((640, 480), Image.Resampling.BICUBIC).save(root / name, quality=90)
        records.append({"image": name, "caption": [f"{who} beside a fence, number {number}." for who in CAPTIONS]})
    (root / "annotations" / "coco_karpathy_test.json").write_text(json.dumps(records))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real_size") / "runs"


@pytest.fixture(scope="module")
def finished(out: Path) -> subprocess.CompletedProcess[str]:
    write_coco(out.parent / "coco")
    checkpoint = make_checkpoint(load_model_config("base"), out.parent / CHECKPOINT, seed=0, momentum=True)
    try:
        return run_processes(
            ["run", "retrieval_coco", "--ckpt", str(checkpoint), "--data", str(out.parent / "coco"), "--out", str(out)]
        )
    finally:
        checkpoint.unlink()  # 1.8 GB, which pytest would keep for three sessions


@pytest.fixture(scope="module")
def result(finished: subprocess.CompletedProcess[str], out: Path) -> dict[str, Any]:
    assert finished.returncode == 0, finished.stderr
    return result_of(out, "retrieval_coco", Path(CHECKPOINT).stem)


def test_the_table_stands_beside_the_published_row(
    finished: subprocess.CompletedProcess[str], result: dict[str, Any]
) -> None:
    for figure in ("81.9", "95.4", "97.8", "64.3", "85.7", "91.5", "BLIP ViT-B"):
        assert figure in finished.stdout
    assert f"{result['metrics']['txt_r1']['value']:.2f}" in finished.stdout


def test_the_model_is_read_off_the_file(result: dict[str, Any]) -> None:
    model = result["model"]
    assert (model["kind"], model["size"], model["image_size"]) == ("retrieval", "base", 384)
    assert model["parameters"] == pytest.approx(223.7e6, rel=1e-3)  # ViT-B 86.1 M, MED 137.3 M; no momentum copies


def test_every_pair_is_matched_once_when_there_are_fewer_than_k_test(result: dict[str, Any]) -> None:
    embed, rerank = result["timing"]["stages"]
    assert embed["items"] == IMAGES + IMAGES * len(CAPTIONS)
    assert rerank["items"] == IMAGES * IMAGES * len(CAPTIONS)


def test_the_fast_scores_are_the_plain_ones(result: dict[str, Any]) -> None:
    check = result["self_check"]
    assert result["status"] == "complete"
    assert check["compared"] >= 32
    assert not check["suspect"]
