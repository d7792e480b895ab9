"""The checkpoints that ship: small, found by name, the shapes world's own, and better than chance at their tasks."""

import json
from pathlib import Path

import pytest
from command_line import blipbench

from blipbench.config.paths import bundled_checkpoints
from blipbench.config.tasks import list_tasks
from blipbench.evaluation.result import read_result
from blipbench.models.checkpoint import load_checkpoint
from blipbench.shapes import make_shapes, shapes_vocabulary
from blipbench.shapes.sampling import TWINS_EVERY, sample_scene

IMAGES = 24
LEFT_AND_ABOVE = 7  # a seed whose first three pairs of test twins are about these
# A floor far above what random weights reach on so few images, and below what the models do on many.
ABOVE_CHANCE = {
    "retrieval_shapes": ("r_mean", 80.0),
    "video_shapes": ("r_mean", 80.0),
    "vqa_shapes": ("accuracy", 50.0),
    "nlvr_shapes": ("test_p_acc", 55.0),
    "caption_shapes": ("CIDEr", 50.0),
    "nocaps_shapes": ("CIDEr", 50.0),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_shapes(folder, images=IMAGES, seed=3, splits=("test", "nocaps", "video"))
    return folder


def test_they_are_8_megabytes_at_most() -> None:
    assert 0 < sum(file.stat().st_size for file in bundled_checkpoints().values()) <= 8_000_000


@pytest.mark.parametrize("name", sorted(bundled_checkpoints()))
def test_they_read_the_words_that_the_generator_writes(name: str) -> None:
    checkpoint = load_checkpoint(name)
    assert checkpoint.vocab is not None
    assert tuple(checkpoint.vocab.read_text().split()) == tuple(shapes_vocabulary())


def test_every_task_of_the_shapes_world_names_one() -> None:
    named = {task.name: task.checkpoint for task in list_tasks() if task.name.endswith("_shapes")}
    assert named.keys() == ABOVE_CHANCE.keys()
    assert set(named.values()) == bundled_checkpoints().keys()


@pytest.mark.parametrize("task", sorted(ABOVE_CHANCE))
def test_a_run_without_a_checkpoint_takes_it_and_beats_chance(task: str, world: Path, tmp_path: Path) -> None:
    done = blipbench("run", task, "--data", world, "--out", tmp_path, "--workers", 0)
    assert done.exit_code == 0, done.output
    metric, floor = ABOVE_CHANCE[task]
    (result,) = tmp_path.rglob("result.json")
    assert read_result(result).metrics[metric].value > floor


def test_itm_tells_scenes_apart_that_differ_only_in_left_or_above(tmp_path: Path) -> None:
    make_shapes(tmp_path, images=3 * TWINS_EVERY, seed=LEFT_AND_ABOVE, splits=("test",))
    rows = json.loads((tmp_path / "shapes_karpathy_test.json").read_text())
    right = []
    for first in range(0, len(rows), TWINS_EVERY):
        assert sample_scene(LEFT_AND_ABOVE, "test", first).focus.kind in ("left", "above")
        one, other = rows[first : first + 2]
        texts = [*one["caption"], *other["caption"]]
        of_one, of_other = (itm(tmp_path / row["image"], texts) for row in (one, other))
        right += [(a > b) == (text in one["caption"]) for text, a, b in zip(texts, of_one, of_other, strict=True)]
    assert len(right) == 30
    assert sum(right) >= 28


def itm(picture: Path, texts: list[str]) -> list[float]:
    done = blipbench("match", picture, *texts, "--ckpt", "shapes_base", "--json")
    assert done.exit_code == 0, done.output
    return [match["itm"] for match in json.loads(done.stdout)["matches"]]


def test_a_mistyped_name_is_answered_with_the_right_one(tmp_path: Path) -> None:
    done = blipbench("ckpt", "inspect", "shapes_bas")
    assert done.exit_code != 0
    assert "did you mean shapes_base" in done.output


def test_a_caption_starts_as_the_captioner_was_trained(world: Path) -> None:
    picture = world / "images/test/shapes_test_000000.jpg"
    done = blipbench("caption", picture, "--ckpt", "shapes_base", "--prompt", "")
    assert done.exit_code == 0, done.output
    assert set(done.stdout.split()) <= set(shapes_vocabulary()) and len(done.stdout.split()) >= 5
