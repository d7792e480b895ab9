"""What batch examples make."""

from pathlib import Path

import pytest
import torch
from training_runs import make_world, spec

from blipbench.errors import DataError
from blipbench.evaluation.ranks import Ranks
from blipbench.models.tokenizer import load_tokenizer
from blipbench.training.batches import NlvrBatch, PairBatch, VqaBatch
from blipbench.training.data import BatchMaker, decode_all, load_batches, to_device
from blipbench.training.order import epoch_rows
from blipbench.training.records import NlvrExample, TrainingSet, VqaExample, read_training_set
from blipbench.training.spec import TrainSpec


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


def maker(run: TrainSpec, world: Path, data: TrainingSet | None = None, cached: bool = False) -> BatchMaker:
    data = data or read_training_set(run, world)
    pixels = decode_all(data, run.image_size, 0, Ranks(), lambda images: None) if cached else None
    return BatchMaker(run, data, load_tokenizer(world / "vocab.txt"), pixels)


def test_an_image_that_several_questions_share_is_in_a_batch_once(tmp_path: Path, world: Path) -> None:
    run = spec(tmp_path, "vqa", by_image=True)
    data = read_training_set(run, world)
    make, rows = maker(run, world, data), epoch_rows(run, data, 0, 0, 1)[0]
    batch = make(0, rows)
    assert isinstance(batch, VqaBatch) and len(batch.images) < len(batch.question_ids) == len(rows)
    each = [make(0, [row]).images[0] for row in rows]
    assert torch.equal(batch.images[batch.image_of], torch.stack(each))


def test_an_image_that_several_sentences_share_is_in_a_batch_once(tmp_path: Path, world: Path) -> None:
    run = spec(tmp_path, "nlvr", by_image=True)
    data = read_training_set(run, world)
    make, rows = maker(run, world, data), epoch_rows(run, data, 0, 0, 1)[0]
    batch = make(0, rows)
    assert isinstance(batch, NlvrBatch) and len(batch.images) < 2 * len(batch.labels) == 2 * len(rows)
    each = [make(0, [row]).images for row in rows]  # left and right, or one image that is both
    assert torch.equal(batch.images[batch.image_of], torch.stack([images[[0, -1]] for images in each]))


def test_pairs_are_padded_to_the_longest_and_equal_images_have_equal_ids(tmp_path: Path, world: Path) -> None:
    run = spec(tmp_path)
    make = maker(run, world)
    batch = make(0, [0, 1, 5])
    assert isinstance(batch, PairBatch)
    assert batch.images.shape == (3, 3, 32, 32) and batch.images.dtype == torch.uint8
    assert batch.image_ids[0] == batch.image_ids[1] != batch.image_ids[2]
    assert (batch.input_ids[:, 0] == make.tokenizer.cls_id).all()
    assert torch.equal(batch.attention_mask == 0, batch.input_ids == make.tokenizer.pad_id)
    assert batch.attention_mask.all(dim=0).sum() <= batch.attention_mask.sum(1).max() == batch.input_ids.shape[1]


def test_answers_lie_one_after_another_with_their_weights(tmp_path: Path, world: Path) -> None:
    paths = read_training_set(spec(tmp_path), world).paths[:2]
    examples = [VqaExample(0, "how many", ("1", "2"), (0.9, 0.1)), VqaExample(1, "what color", ("red",), (0.2,))]
    make = maker(spec(tmp_path, "vqa"), world, TrainingSet(["a", "b"], paths, examples, ""))
    batch = make(0, [1, 0])
    assert isinstance(batch, VqaBatch)
    assert batch.answers_per_question.tolist() == [1, 2]
    assert batch.weights.tolist() == pytest.approx([0.2, 0.9, 0.1])
    assert [make.tokenizer.decode(row.tolist()) for row in batch.answer_ids] == ["red", "1", "2"]


def test_nlvr_pairs_change_sides_in_half_of_the_cases_and_their_words_with_them(tmp_path: Path, world: Path) -> None:
    data = read_training_set(spec(tmp_path), world)
    make = maker(
        spec(tmp_path, "nlvr", augment="reference", cache_pixels=False),
        world,
        TrainingSet(data.names, data.paths, [NlvrExample(0, 1, "the left image", True)] * 64, ""),
    )
    batch = make(0, range(64))
    assert isinstance(batch, NlvrBatch)
    assert batch.images.shape == (128, 3, 32, 32)
    assert batch.image_of.tolist() == [[2 * i, 2 * i + 1] for i in range(64)]
    sentences = [make.tokenizer.decode(row.tolist()) for row in batch.input_ids]
    assert 16 < sentences.count("the right image") < 48 and set(sentences) == {"the left image", "the right image"}


def test_worker_processes_make_the_batches_that_this_process_makes(tmp_path: Path, world: Path) -> None:
    run = spec(tmp_path, augment="reference", cache_pixels=False)
    make, rows = maker(run, world), [[3, 41, 8, 20], [59, 1, 17, 30], [12, 5, 44, 26]]
    before = torch.get_rng_state()
    apart = list(load_batches(make, 0, rows, workers=2, pin_memory=False))
    assert torch.equal(torch.get_rng_state(), before)
    here = list(load_batches(make, 0, rows, workers=0, pin_memory=False))
    for one, other in zip(apart, here, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_cached_pixels_are_those_that_are_decoded_each_time(tmp_path: Path, world: Path) -> None:
    run = spec(tmp_path)
    cached, decoded = maker(run, world, cached=True)(0, [3, 40]), maker(run, world)(0, [3, 40])
    assert torch.equal(cached.images, decoded.images)
    assert to_device(cached, torch.device("cpu")).images.dtype == torch.float32


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_without_a_traceback(tmp_path: Path, world: Path, workers: int) -> None:
    run = spec(tmp_path, cache_pixels=False)
    data = read_training_set(run, world)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    make = maker(run, world, TrainingSet(data.names, [broken, *data.paths[1:]], data.examples, ""))
    with pytest.raises(DataError, match=r"broken\.png: not an image") as error:
        list(load_batches(make, 0, [[0]], workers, pin_memory=False))
    assert "Traceback" not in str(error.value)
