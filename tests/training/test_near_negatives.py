"""Pre-training without ITC: ITM's negatives are neighbours, and what only ITC needs stays as it was."""

from pathlib import Path

import pytest
import torch
from command_line import blipbench
from forked import run_forked
from training_runs import make_world, metrics, train_arguments, weights, write_config

from blipbench.errors import UsageError
from blipbench.training.matching import draw, near_weights
from blipbench.training.spec import load_train_spec


def test_a_neighbour_is_drawn_where_there_is_one() -> None:
    image_ids = torch.tensor([4, 7, 5, 4])  # 4 and 5 are neighbours; 6 is not there
    drawn = [draw(near_weights(image_ids, 2)).tolist() for _ in range(50)]
    assert {row[0] for row in drawn} == {2} == {row[3] for row in drawn}
    assert {row[2] for row in drawn} == {0, 3}


def test_else_any_other_image_is() -> None:
    drawn = {draw(near_weights(torch.tensor([4, 7, 5, 4]), 2))[1].item() for _ in range(100)}
    assert drawn == {0, 2, 3}


def test_two_ranks_train_itm_and_lm_and_leave_the_projections(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world")
    begun = write_config(tmp_path / "one", "pretrain", max_steps=1)
    assert blipbench(*train_arguments(begun, world, tmp_path / "a")).exit_code == 0
    config = write_config(tmp_path / "two", "pretrain", log_every=1, neighbours=2, itc=False)
    start = ("--init", tmp_path / "a" / "tiny" / "last.safetensors")
    ended = run_forked(train_arguments(config, world, tmp_path / "b", *start), ranks=2)
    assert [rank.exit_code for rank in ended] == [0, 0], ended
    losses = metrics(tmp_path / "b")[0].keys() & {"itc", "itm", "lm"}
    assert losses == {"itm", "lm"}
    before, after = weights(tmp_path / "a"), weights(tmp_path / "b")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "itm_head.weight" in moved
    assert not moved & {"vision_proj.weight", "vision_proj.bias", "text_proj.weight", "text_proj.bias"}


@pytest.mark.parametrize("changes", [["neighbours=1"], ["kind=retrieval"]])
def test_it_needs_neighbours_and_pre_training(changes: list[str]) -> None:
    with pytest.raises(UsageError, match="itc: false is for kind 'pretrain' with neighbours of 2 or more"):
        load_train_spec("pretrain_shapes", ["itc=false", *changes])
