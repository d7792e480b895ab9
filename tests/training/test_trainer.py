"""Whole runs through the command line: what they leave, what they refuse."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import blipbench
from forked import run_forked
from training_runs import MODEL, make_world, metrics, train_arguments, weights, write_config

KINDS = ["retrieval", "caption", "vqa", "nlvr", "pretrain"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_and_logs(world: Path, tmp_path: Path, kind: str) -> None:
    config = write_config(tmp_path, kind, epochs=12, log_every=3, batch_size=6, queue_size=None)
    if kind in ("retrieval", "pretrain"):
        config = write_config(tmp_path, kind, epochs=12, log_every=3, batch_size=6, queue_size=24)
    done = blipbench(*train_arguments(config, world, tmp_path / "out"))
    assert done.exit_code == 0, done.output
    lines = metrics(tmp_path / "out")
    assert lines[0].keys() >= {"step", "epoch", "lr", "images_per_second", "seconds"}
    loss = {"caption": "lm", "vqa": "vqa", "nlvr": "nlvr"}.get(kind, "itm")
    assert min(line[loss] for line in lines[-4:]) < lines[0][loss]
    assert (tmp_path / "out" / "tiny" / "metrics.png").stat().st_size > 1000


def test_a_checkpoint_runs_in_the_benchmark(world: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, epochs=1)
    assert blipbench(*train_arguments(config, world, tmp_path / "out")).exit_code == 0
    run = blipbench(
        *("run", "retrieval_shapes", "--ckpt", tmp_path / "out" / "tiny" / "last.safetensors", "--data", world),
        *("--out", tmp_path / "runs", "--workers", 0, "--json", "--device", "cpu"),
    )
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout.splitlines()[-1])["status"] == "complete"


def test_evaluating_while_training_changes_no_weight_and_keeps_the_best(world: Path, tmp_path: Path) -> None:
    evaluate = {"task": "retrieval_shapes", "split": "val", "settings": {"rerank": "none"}}
    plain = write_config(tmp_path / "plain", dropout=0.1)
    watched = write_config(tmp_path / "watched", dropout=0.1, evaluate=evaluate)
    assert blipbench(*train_arguments(plain, world, tmp_path / "a")).exit_code == 0
    done = blipbench(*train_arguments(watched, world, tmp_path / "b"))
    assert done.exit_code == 0, done.output
    alone, with_evaluation = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(alone[name], with_evaluation[name]) for name in alone)
    found = json.loads((tmp_path / "b" / "tiny" / "evaluations.json").read_text())
    assert found["metric"] == "r_mean" and list(found["values"]) == ["15", "30"]
    logged = [line["value"] for line in metrics(tmp_path / "b") if "metric" in line]
    assert logged == list(found["values"].values())
    assert f"best r_mean {max(logged):.2f}" in done.output and "best.safetensors" in done.output
    assert weights(tmp_path / "b", "best").keys() == alone.keys()


def test_half_batches_accumulated_are_a_whole_batch(world: Path, tmp_path: Path) -> None:
    """NLVR's loss is a mean over sentences, so that the gradients are the same up to rounding."""
    settings = {"dropout": 0.0, "epochs": 9, "max_steps": 4, "log_every": 1, "lr": 1e-2}
    whole = write_config(tmp_path / "whole", "nlvr", batch_size=8, **settings)
    halves = write_config(tmp_path / "halves", "nlvr", batch_size=4, accumulate=2, **settings)
    for name, config in (("a", whole), ("b", halves)):
        assert blipbench(*train_arguments(config, world, tmp_path / name)).exit_code == 0
    one, other = ([line["nlvr"] for line in metrics(tmp_path / name)] for name in ("a", "b"))
    assert one == pytest.approx(other, rel=1e-4) and one[0] != one[3]


def test_bf16_and_gradient_checkpointing_train(world: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, precision="bf16", gradient_checkpointing=True, clip_norm=1.0, max_steps=3)
    done = blipbench(*train_arguments(config, world, tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path / "out").values())


def test_a_loss_that_is_not_finite_stops_with_the_examples_named(world: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, "caption", lr=1e30, checkpoint_every=1)
    done = blipbench(*train_arguments(config, world, tmp_path / "out"))
    assert done.exit_code == 1
    assert "the loss is not finite (lm nan), on examples" in done.output
    assert "images/train/shapes_train_0000" in done.output and "the last good state is in" in done.output
    assert (tmp_path / "out" / "tiny" / "state.pt").exists()


def test_a_missing_image_is_refused_by_name_before_training(world: Path, tmp_path: Path) -> None:
    copy = tmp_path / "world"
    shutil.copytree(world, copy)
    (copy / "images" / "train" / "shapes_train_000003.jpg").unlink()
    done = blipbench(*train_arguments(write_config(tmp_path), copy, tmp_path / "out"))
    assert done.exit_code == 1
    assert "1 of 12 images is missing under" in done.output and "shapes_train_000003.jpg" in done.output
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_ends_all_ranks_and_is_named_by_the_one_that_decodes_it(world: Path, tmp_path: Path) -> None:
    copy = tmp_path / "world"
    shutil.copytree(world, copy)
    image = copy / "images" / "train" / "shapes_train_000011.jpg"  # of the second rank's part
    image.write_bytes(b"no image")
    first, second = run_forked(train_arguments(write_config(tmp_path), copy, tmp_path / "out"), ranks=2)
    assert (first.exit_code, second.exit_code) == (1, 1)
    assert "error on rank 1: " in second.output and "shapes_train_000011.jpg: not an image" in second.output
    assert "shapes_train_000011.jpg" not in first.output


def test_ranks_that_train_print_no_warning(world: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, "caption", max_steps=1)
    for ended in run_forked(train_arguments(config, world, tmp_path / "out"), ranks=2):
        assert ended.exit_code == 0
        assert "Warning" not in ended.output


def test_images_that_ranks_decoded_for_each_other_are_those_that_each_decodes(world: Path, tmp_path: Path) -> None:
    for cached in (True, False):
        config = write_config(tmp_path, epochs=1, cache_pixels=cached)
        ended = run_forked(train_arguments(config, world, tmp_path / str(cached)), ranks=2)
        assert [rank.exit_code for rank in ended] == [0, 0], ended
    shared, own = (weights(tmp_path / str(cached)) for cached in (True, False))
    assert [name for name in own if not torch.equal(own[name], shared[name])] == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--set", "batch_size=64"], "batch_size 64 = 64 examples a step, but the data has 60"),
        (["--set", "freeze_blocks=2"], "freeze_blocks: 2, but the image encoder has a depth of 1"),
        (["--set", "queue_size=18"], "queue_size 18 is not a multiple of the 4 examples"),
        (["--set", "epoch=3"], "--set epoch=3: unknown key 'epoch'; did you mean 'epochs'?"),
        (["--set", "vocab=words.txt"], "vocab: there is no file"),
        (["--set", "evaluate.task=retrieval_shape"], "unknown task 'retrieval_shape'; did you mean 'retrieval_shapes'"),
        (["--resume", "--fresh"], "--resume and --fresh: choose one"),
        (["--init", "x.pth", "--bert", "bert"], "--init brings all weights"),
    ],
)
def test_wrong_usage_is_named(world: Path, tmp_path: Path, flags: list[str], message: str) -> None:
    done = blipbench(*train_arguments(write_config(tmp_path), world, tmp_path / "out", *flags))
    assert done.exit_code == 2, done.output
    assert message in done.output


def test_a_resume_under_another_configuration_is_refused(world: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, max_steps=2)
    assert blipbench(*train_arguments(config, world, tmp_path / "out")).exit_code == 0
    changed = ("--resume", "--set", "lr=0.5", "--set", "model.text.depth=2", "--set", "log_every=1")
    done = blipbench(*train_arguments(config, world, tmp_path / "out", *changed))
    assert done.exit_code == 2
    assert "lr was 0.001, is 0.5; model.text.depth was 1, is 2)" in done.output


@pytest.mark.parametrize("kind", ["vqa", "pretrain"])
def test_a_frozen_image_encoder_stays_as_it_was_while_the_rest_learns(kind: str, world: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    config = write_config(tmp_path / "one", kind, max_steps=1, evaluate=None)
    assert blipbench(*train_arguments(config, world, first)).exit_code == 0
    frozen = write_config(tmp_path / "two", kind, max_steps=3, lr=1e-2, freeze_vision=True)
    start = first / "tiny" / "last.safetensors"
    done = blipbench(*train_arguments(frozen, world, tmp_path / "out", "--init", start))
    assert done.exit_code == 0, done.output
    before, after = weights(first), weights(tmp_path / "out")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and not any(name.startswith("visual_encoder.") for name in moved)


FROZEN = {"freeze_vision": True}
HALF_FROZEN = {"freeze_blocks": 1, "model": {**MODEL, "vision": {**MODEL["vision"], "depth": 2}}}


@pytest.mark.parametrize(
    ("kind", "ranks", "frozen"),
    [*((kind, 1, FROZEN) for kind in KINDS), ("nlvr", 2, FROZEN), *((kind, 1, HALF_FROZEN) for kind in KINDS)],
)
def test_images_encoded_before_the_run_train_as_those_encoded_at_every_step(
    kind: str, ranks: int, frozen: dict[str, Any], world: Path, tmp_path: Path
) -> None:
    for cached in (True, False):
        config = write_config(tmp_path, kind, max_steps=6, cache_embeds=cached, **frozen)
        ended = run_forked(train_arguments(config, world, tmp_path / str(cached)), ranks=ranks)
        assert [rank.exit_code for rank in ended] == [0] * ranks, ended
        assert ("encode: " in ended[0].output) == cached
    before, at_every_step = (weights(tmp_path / str(cached)) for cached in (True, False))
    torch.testing.assert_close(before, at_every_step, rtol=1e-4, atol=1e-5)
