"""The shapes world through the command line: made once, then run as all six tasks with random weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from command_line import blipbench, result_of
from torch import nn

from blipbench.models.blip import BlipCaptioner, BlipRetrieval, BlipVqa
from blipbench.models.config import ModelConfig, TextConfig, VisionConfig
from blipbench.models.conversion import save_checkpoint
from blipbench.models.nlvr import BlipNlvr
from blipbench.shapes import shapes_vocabulary

IMAGES = 6
CONFIG = ModelConfig(
    name="shapes-random",
    vision=VisionConfig(width=32, depth=2, num_heads=2, image_size=64, patch_size=8),
    text=TextConfig(
        width=32,
        depth=2,
        num_heads=2,
        intermediate_size=64,
        vocab_size=len(shapes_vocabulary()) + 2,
        max_positions=64,
    ),
    embed_dim=16,
)
MODELS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "retrieval": BlipRetrieval,
    "caption": BlipCaptioner,
    "vqa": BlipVqa,
    "nlvr": BlipNlvr,
}
SAME_MODEL = {"video": "retrieval", "nocaps": "caption"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("world") / "shapes"
    arguments = ("--out", out, "--images", IMAGES, "--train-images", 10, "--seed", 1, "--workers", 1)
    return out, blipbench("data", "make", "shapes", *arguments)


@pytest.fixture(scope="module")
def models(made: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one checkpoint a kind, and the world's own vocabulary beside them."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "vocab.txt").write_bytes((made[0] / "vocab.txt").read_bytes())
    generator = torch.Generator().manual_seed(0)
    for kind, build in MODELS.items():
        model = build(CONFIG)
        for name, parameter in model.named_parameters():
            is_scale = "norm" in name.lower() and name.endswith("weight")
            nn.init.normal_(parameter, 1.0 if is_scale else 0.0, 0.02, generator)
        save_checkpoint(model.state_dict(), CONFIG, folder / f"{kind}.safetensors")
    return folder


def test_the_command_counts_what_it_made(made: tuple[Path, Result]) -> None:
    done = made[1]
    assert done.exit_code == 0, done.output
    assert "10 train, 1 val, 6 test, 2 web, 6 nocaps, 6 video, 2 motion, 10 cards (seed 1)" in done.output


@pytest.mark.parametrize(
    ("task", "counts"),
    [
        ("retrieval", {"images": IMAGES, "texts": 5 * IMAGES}),
        ("caption", {"images": IMAGES, "references": 5 * IMAGES}),
        ("nocaps", {"images": IMAGES, "references": 10 * IMAGES}),
        ("vqa", {"images": IMAGES, "questions": 2 * IMAGES, "answer list": 30}),
        ("nlvr", {}),
        ("video", {"clips": IMAGES, "texts": IMAGES}),
    ],
)
def test_every_task_runs_and_is_scored(
    task: str, counts: dict[str, int], made: tuple[Path, Result], models: Path, tmp_path: Path
) -> None:
    kind = SAME_MODEL.get(task, task)
    done = blipbench(
        *("run", f"{task}_shapes", "--ckpt", models / f"{kind}.safetensors", "--data", made[0]),
        *("--out", tmp_path, "--workers", 0),
    )
    assert done.exit_code == 0, done.output
    result = result_of(tmp_path, f"{task}_shapes", kind)
    assert counts.items() <= result["data"]["counts"].items()
    assert result["self_check"]["suspect"] is False
    expected = {
        "retrieval": {"txt_r1", "img_r1"},
        "caption": {"CIDEr", "Bleu_4"},
        "nocaps": {"CIDEr", "in_CIDEr", "near_CIDEr", "out_CIDEr"},
        "vqa": {"accuracy", "accuracy_other"},
        "nlvr": {"test_p_acc"},
        "video": {"vid_r1", "vid_mdR"},
    }
    assert expected[task] <= result["metrics"].keys()
