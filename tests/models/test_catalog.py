"""The table of official files: complete, and each of its published keys picks one row."""

import json

import pytest

from blipbench.config.models import load_model_config
from blipbench.config.paths import data_file
from blipbench.models.catalog import CatalogEntry, find_entry, load_catalog, nearest_names

PUBLISHED = json.loads(data_file("leaderboards", "published.json").read_text(encoding="utf-8"))


def test_every_published_file_that_a_task_exists_for_is_in_the_table() -> None:
    other_tasks = {"blip_okvqa.pth", "blip_aokvqa.pth"}
    published = {row["name"] for row in PUBLISHED["checkpoints"]}
    assert {entry.file for entry in load_catalog()} == published - other_tasks


@pytest.mark.parametrize("entry", load_catalog(), ids=lambda entry: entry.file)
def test_each_published_key_picks_exactly_one_row(entry: CatalogEntry) -> None:
    for task, key in entry.published.items():
        assert len([row for row in PUBLISHED["rows"] if key.picks(row)]) == 1, task


def test_each_cell_that_the_readme_names_a_file_for_is_that_files_row() -> None:
    for row in PUBLISHED["rows"]:
        _, named, file = row["note"].partition("checkpoint of this cell in the README: ")
        entry = find_entry(file)
        if named:
            assert entry is not None
            assert any(key.picks(row) for key in entry.published.values()), file


@pytest.mark.parametrize("entry", load_catalog(), ids=lambda entry: entry.file)
def test_rows_and_caveats_belong_to_the_entrys_tasks(entry: CatalogEntry) -> None:
    assert set(entry.published) == set(entry.tasks)
    assert set(entry.caveats) <= set(entry.tasks)
    assert entry.url.startswith("https://")
    assert entry.url.endswith(f"/{entry.file}")
    assert load_model_config(entry.model).name == entry.model


def test_a_name_is_found_with_and_without_its_ending() -> None:
    assert find_entry("model_base_nlvr") == find_entry("model_base_nlvr.pth")
    assert find_entry("model_huge.pth") is None


def test_a_mistyped_name_has_near_ones() -> None:
    assert nearest_names("model_base_retreival_coco.pth")[0] == "model_base_retrieval_coco.pth"
    assert nearest_names("something else") == []
