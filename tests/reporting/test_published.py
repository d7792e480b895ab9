import pytest

from blipbench.config.tasks import list_tasks
from blipbench.models.catalog import load_catalog
from blipbench.reporting.published import published_row

COCO = ("retrieval_coco", "retrieval_coco")
FLICKR = ("retrieval_flickr", "retrieval_flickr30k")


def test_an_official_file_gets_its_own_row() -> None:
    row = published_row(*COCO, "model_base_retrieval_coco.pth", "base")
    assert row is not None
    assert (row.model, row.is_own) == ("BLIP ViT-B", True)
    assert (row.metrics["txt_r1"], row.metrics["img_r1"]) == (81.9, 64.3)
    assert "arXiv:2201.12086 Table 5" in row.label


@pytest.mark.parametrize("name", ["runs/x/model_large_retrieval_coco.pth", "model_large_retrieval_coco.safetensors"])
def test_a_path_and_a_conversion_count_as_the_official_file(name: str) -> None:
    row = published_row(*COCO, name, "large")
    assert row is not None
    assert (row.model, row.is_own, row.metrics["txt_r1"]) == ("BLIP ViT-L", True, 82.4)


def test_zero_shot_on_flickr_is_the_row_of_the_coco_checkpoint() -> None:
    row = published_row(*FLICKR, "model_base_retrieval_coco.pth", "base")
    assert row is not None
    assert (row.split, row.metrics["txt_r1"]) == ("test 1K, zero-shot", 96.0)


def test_a_text_to_video_row_stands_beside_the_retrieval_of_videos() -> None:
    row = published_row("retrieval_msrvtt", "retrieval_msrvtt", "model_base_retrieval_coco.pth", "base")
    assert row is not None
    assert row.metrics == {"vid_r1": 43.3, "vid_r5": 65.6, "vid_r10": 74.7, "vid_mdR": 2}


@pytest.mark.parametrize("size, figure", [("base", 97.3), ("large", 97.4)])
def test_another_file_gets_the_papers_row_of_its_size_labelled_so(size: str, figure: float) -> None:
    row = published_row(*FLICKR, "mine.pth", size)
    assert row is not None
    assert (row.is_own, row.metrics["txt_r1"]) == (False, figure)
    assert "not this checkpoint" in row.label


@pytest.mark.parametrize("size", ["tiny", None])
def test_a_model_of_no_published_size_gets_none(size: str | None) -> None:
    assert published_row(*COCO, "mine.pth", size) is None


def test_a_task_that_nobody_published_gets_none() -> None:
    assert published_row("retrieval_shapes", None, "mine.pth", "base") is None


def test_an_official_file_that_is_not_for_the_task_gets_none() -> None:
    assert published_row(*COCO, "model_base_nlvr.pth", "base") is None


def test_the_caveat_of_the_catalog_comes_along() -> None:
    entry = next(entry for entry in load_catalog() if "retrieval_flickr" in entry.caveats)
    row = published_row(*FLICKR, entry.file, entry.model)
    assert row is not None
    assert row.caveats == (entry.caveats["retrieval_flickr"],)


def test_every_row_that_the_catalog_names_exists() -> None:
    published_names = {task.name: task.published_task for task in list_tasks()}
    keys = [(entry.file, entry.model, task) for entry in load_catalog() for task in entry.published]
    assert keys
    for file, model, task in keys:
        assert published_row(task, published_names.get(task), file, model) is not None
