"""What is in the training annotations of the shapes world that no reader checks."""

import pytest

from blipbench.shapes.annotations import Files, split_files
from blipbench.shapes.sampling import sample_scene

SEED, SIZE = 0, 200


@pytest.fixture(scope="module")
def training() -> Files:
    return split_files("train", SIZE, SEED)


def test_the_twins_file_has_all_captions_of_the_scenes_whose_twin_turns_left_or_above_round(training: Files) -> None:
    scenes = [sample_scene(SEED, "train", index) for index in range(SIZE)]
    turned = [index for index, s in enumerate(scenes) if s.has_twin and s.focus.kind in ("left", "above")]
    ids = [f"shapes_{index:06d}" for index in turned]
    assert len(ids) > 10
    assert training["shapes_twins_train.json"] == [
        row for row in training["shapes_karpathy_train.json"] if row["image_id"] in ids
    ]


def test_twins_follow_each_other_in_it(training: Files) -> None:
    rows = training["shapes_twins_train.json"]
    numbers = list(dict.fromkeys(int(row["image_id"].removeprefix("shapes_")) for row in rows))
    assert numbers[1::2] == [first + 1 for first in numbers[::2]]
