"""Which examples a step sees."""

import itertools
from pathlib import Path

import pytest
from training_runs import make_world, spec

from blipbench.errors import UsageError
from blipbench.training.order import epoch_rows, make_plan
from blipbench.training.records import CaptionExample, TrainingSet, read_training_set
from blipbench.training.spec import Kind


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


def captioned(images: int, captions: int) -> TrainingSet:
    """Every image with as many captions, image by image."""
    return training_set([[f"caption {n}" for n in range(captions)] for _ in range(images)])


def training_set(captions: list[list[str]]) -> TrainingSet:
    """Of images that have these captions."""
    examples = [CaptionExample(image, caption) for image, of_image in enumerate(captions) for caption in of_image]
    names = [f"{image}.jpg" for image in range(len(captions))]
    return TrainingSet(names, [Path(name) for name in names], examples, sha256="")


def test_an_epochs_batches_are_a_permutation_split_over_the_ranks(tmp_path: Path) -> None:
    run, data = spec(tmp_path), captioned(61, 1)
    alone = epoch_rows(run, data, epoch=1, rank=0, world_size=1)
    assert [len(batch) for batch in alone] == [4] * 15
    assert len({row for batch in alone for row in batch}) == 60
    ranks = [epoch_rows(run, data, epoch=1, rank=rank, world_size=3) for rank in range(3)]
    together = [batches[step] for step in range(5) for batches in ranks]
    assert together == alone
    assert alone != epoch_rows(run, data, epoch=2, rank=0, world_size=1)


def test_neighbouring_images_share_a_batch_with_one_caption_each(tmp_path: Path) -> None:
    run, data = spec(tmp_path, neighbours=2), captioned(20, 3)
    batches = [data.images_of(rows) for rows in epoch_rows(run, data, epoch=0, rank=0, world_size=1)]
    assert [len(batch) for batch in batches] == [4] * 15
    assert all(len(set(batch)) == 4 and {image ^ 1 for image in batch} == set(batch) for batch in batches)


def test_an_epoch_of_neighbours_is_a_permutation_too(tmp_path: Path) -> None:
    run, data = spec(tmp_path, neighbours=2), captioned(20, 3)
    epochs = [epoch_rows(run, data, epoch, rank=0, world_size=1) for epoch in (0, 1)]
    assert all(sorted(row for batch in batches for row in batch) == list(range(60)) for batches in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("kind", ["vqa", "nlvr"])
def test_by_image_all_texts_about_an_image_follow_one_another(kind: Kind, tmp_path: Path, world: Path) -> None:
    run = spec(tmp_path, kind, by_image=True)
    data = read_training_set(run, world)
    epochs = [[row for rows in epoch_rows(run, data, epoch, rank=0, world_size=1) for row in rows] for epoch in (0, 1)]
    for order in epochs:
        images = data.images_of(order)
        assert len(list(itertools.groupby(images))) == len(set(images))
    assert len(set(epochs[0])) == len(epochs[0]) and epochs[0] != epochs[1]


def of_lengths(images: int) -> TrainingSet:
    """Image n has one caption, of 1 to 20 words; two neighbours differ in theirs."""
    return training_set([[" ".join(["word"] * (image * 7 % 20 + 1))] for image in range(images)])


def padding(data: TrainingSet, batches: list[list[int]]) -> int:
    """Tokens of all batches that are no words."""
    lengths = [data.lengths_of(rows) for rows in batches]
    return sum(max(of_batch) * len(of_batch) - sum(of_batch) for of_batch in lengths)


def test_by_length_texts_of_a_batch_are_about_equally_long(tmp_path: Path) -> None:
    data = of_lengths(320)
    mixed, alike = (epoch_rows(spec(tmp_path, by_length=by), data, 0, 0, 1) for by in (False, True))
    assert padding(data, alike) < 0.2 * padding(data, mixed)


def test_by_length_an_epoch_is_a_permutation_in_which_short_and_long_batches_take_turns(tmp_path: Path) -> None:
    run, data = spec(tmp_path, by_length=True), of_lengths(320)
    epochs = [epoch_rows(run, data, epoch, rank=0, world_size=1) for epoch in (0, 1)]
    assert all(sorted(row for batch in batches for row in batch) == list(range(320)) for batches in epochs)
    assert epochs[0] != epochs[1]
    for start in range(0, len(epochs[0]), 16):
        longest = [max(data.lengths_of(batch)) for batch in epochs[0][start : start + 16]]
        assert longest != sorted(longest) and longest != sorted(longest, reverse=True)


def test_by_length_all_ranks_batches_of_a_step_are_alike(tmp_path: Path) -> None:
    run, data = spec(tmp_path, by_length=True), of_lengths(320)
    ranks = [epoch_rows(run, data, 0, rank, world_size=2) for rank in (0, 1)]
    assert sorted(row for batches in ranks for batch in batches for row in batch) == list(range(320))
    steps = [[*first, *second] for first, second in zip(*ranks, strict=True)]
    assert padding(data, steps) < 0.2 * padding(data, epoch_rows(spec(tmp_path, batch_size=8), data, 0, 0, 1))


def test_by_length_neighbouring_images_still_share_a_batch(tmp_path: Path) -> None:
    run, data = spec(tmp_path, neighbours=2, by_length=True), of_lengths(320)
    batches = [data.images_of(rows) for rows in epoch_rows(run, data, epoch=0, rank=0, world_size=1)]
    assert all({image ^ 1 for image in batch} == set(batch) for batch in batches)
    mixed = epoch_rows(spec(tmp_path, neighbours=2), data, 0, 0, 1)
    assert padding(data, batches) < padding(data, mixed)


@pytest.mark.parametrize("kind", ["vqa", "nlvr"])
def test_by_length_texts_about_an_image_still_follow_one_another(kind: Kind, tmp_path: Path, world: Path) -> None:
    data = read_training_set(spec(tmp_path, kind), world)
    run = spec(tmp_path, kind, by_image=True, by_length=True, batch_size=len(data.examples) // 2)
    for rows in epoch_rows(run, data, epoch=0, rank=0, world_size=1):
        images = data.images_of(rows)
        assert len(list(itertools.groupby(images))) == len(set(images))


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"batch_size 32 x 2 ranks = 64 examples a step, but the data has 60; .*=30"):
        make_plan(spec(tmp_path, batch_size=32, queue_size=64), examples=60, world_size=2)


def test_a_queue_that_the_batches_do_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"queue_size 20 is not a multiple of the 8 examples .* queue_size=16"):
        make_plan(spec(tmp_path, queue_size=20), examples=60, world_size=2)
