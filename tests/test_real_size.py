"""The published command at its real size: an official-layout base checkpoint, 384 px, COCO's folder layout, few images."""

import json
from pathlib import Path

import pytest
from command_line import result_of, run_processes
from make_checkpoint import make_checkpoint
from PIL import Image

from blipbench.config import load_model_config
from blipbench.data.shapes import make_shapes

IMAGES = 3


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """val2014/COCO_val2014_*.jpg of COCO's usual 640 x 480 with five captions each."""
    make_shapes(tmp_path / "shapes", images=IMAGES, seed=0, splits=("test",))
    records = json.loads((tmp_path / "shapes" / "shapes_karpathy_test.json").read_text())
    folder = tmp_path / "coco"
    (folder / "val2014").mkdir(parents=True)
    for number, record in enumerate(records):
        picture = Image.open(tmp_path / "shapes" / record["image"]).resize((640, 480))
        record["image"] = f"val2014/COCO_val2014_{number:012d}.jpg"
        picture.save(folder / record["image"], quality=90)
    (folder / "coco_karpathy_test.json").write_text(json.dumps(records))
    return folder


def test_retrieval_coco_from_the_command_line(coco: Path, tmp_path: Path) -> None:
    weights = make_checkpoint(
        load_model_config("base"), tmp_path / "model_base_retrieval_coco.pth", seed=0, momentum=True
    )
    out = tmp_path / "runs"
    arguments = ["run", "retrieval_coco", "--ckpt", str(weights), "--data", str(coco), "--out", str(out)]
    done = run_processes(arguments)
    assert done.returncode == 0, done.stderr
    for shown in ["txt_r1", "81.9", "64.3", "self-check", "TFLOP/s"]:
        assert shown in done.stdout

    result = result_of(out, "retrieval_coco", "model_base_retrieval_coco")
    assert result["status"] == "complete"
    assert result["task"]["settings"]["k_test"] == 256
    assert (result["model"]["kind"], result["model"]["size"]) == ("retrieval", "base")
    assert result["model"]["image_size"] == 384
    assert result["model"]["parameters"] == 223_744_259
    assert result["data"]["counts"] == {"images": IMAGES, "texts": 5 * IMAGES}
    assert [stage["items"] for stage in result["timing"]["stages"]] == [6 * IMAGES, 5 * IMAGES * IMAGES]
    assert result["self_check"]["deviation"] < 1e-5
