from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from blipbench.config import tasks
from blipbench.config.models import load_model_config
from blipbench.errors import UsageError
from blipbench.protocols.retrieval.task import RetrievalSettings

TASK = """\
name: mine
title: My own images
protocol: retrieval
data:
  reader: karpathy
  annotations: {test: mine_test.json}
  max_words: 30
model: {image_size: 384}
settings: {k_test: 8}
main_metric: r_mean
"""

SHAPES_TASKS = {"retrieval", "caption", "nocaps", "vqa", "nlvr", "video"}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the task above, with one piece of it replaced, to mine.yaml."""

    def write_task(old: str = "", new: str = "", name: str = "mine") -> Path:
        assert old in TASK
        path = tmp_path / f"{name}.yaml"
        path.write_text(TASK.replace(old, new) if old else TASK)
        return path

    return write_task


def message_of(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        tasks.load_task(str(path))
    assert caught.value.exit_code == 2
    return str(caught.value)


class TestShippedTasks:
    def test_coco_is_run_as_the_reference_runs_it(self) -> None:
        task = tasks.load_task("retrieval_coco")
        assert task.settings == RetrievalSettings(k_test=256, max_tokens=35, rerank="itm")
        assert (task.model.image_size, task.data.max_words, task.data.split) == (384, 30, "test")
        assert task.data.annotations["test"] == "coco_karpathy_test.json"

    def test_flickr_is_run_as_the_reference_runs_it(self) -> None:
        task = tasks.load_task("retrieval_flickr")
        assert (task.settings.k_test, task.model.image_size, task.published_task) == (128, 384, "retrieval_flickr30k")

    def test_the_shapes_tasks_share_one_image_size_that_the_tiny_model_can_divide(self) -> None:
        shapes = [task for task in tasks.list_tasks() if task.name.endswith("_shapes")]
        assert {task.name.removesuffix("_shapes") for task in shapes} == SHAPES_TASKS
        assert {task.model.image_size for task in shapes} == {64}
        assert 64 % load_model_config("tiny").vision.patch_size == 0
        assert all(task.published_task is None for task in shapes)

    def test_all_are_listed_by_name(self) -> None:
        names = [task.name for task in tasks.list_tasks()]
        assert names == sorted(names)
        assert {"retrieval_coco", "retrieval_flickr", "retrieval_shapes"} <= set(names)

    def test_every_file_that_is_fetched_has_an_address(self) -> None:
        fetched = [source for task in tasks.list_tasks() for source in task.sources if source.auto]
        assert fetched
        assert all(source.url for source in fetched)

    def test_what_is_loaded_cannot_be_changed(self) -> None:
        with pytest.raises(ValidationError):
            tasks.load_task("retrieval_coco").settings.k_test = 1  # type: ignore[misc]


class TestFindingATask:
    def test_dashes_and_underscores_are_the_same(self) -> None:
        assert tasks.load_task("retrieval-coco") == tasks.load_task("retrieval_coco")

    def test_a_path_is_read_from_where_it_is(self, write: Write) -> None:
        assert tasks.load_task(str(write())).title == "My own images"

    def test_a_users_folder_adds_its_tasks(self, write: Write) -> None:
        assert "mine" in [task.name for task in tasks.list_tasks(write().parent)]

    def test_a_users_task_hides_the_shipped_one_of_its_name(self, write: Write) -> None:
        folder = write("name: mine", "name: retrieval_coco", name="retrieval_coco").parent
        assert tasks.load_task("retrieval_coco", folder).title == "My own images"

    def test_the_environment_names_a_folder_too(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BLIPBENCH_TASKS", str(write().parent))
        assert tasks.load_task("mine").name == "mine"

    def test_an_unknown_name_gets_the_nearest_one(self) -> None:
        with pytest.raises(UsageError, match=r"unknown task 'retreival_coco'; did you mean 'retrieval_coco'\?"):
            tasks.load_task("retreival_coco")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"nowhere\.yaml: there is no such task file"):
            tasks.load_task(str(tmp_path / "nowhere.yaml"))

    def test_a_missing_folder_is_named_with_its_flag(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"--tasks-dir .*/gone: there is no such folder"):
            tasks.list_tasks(tmp_path / "gone")


class TestBadFiles:
    def test_an_unknown_key_gets_the_nearest_known_one(self, write: Write) -> None:
        path = write("k_test: 8", "k_test: 8, k_tset: 9")
        assert message_of(path) == f"{path}: unknown key 'k_tset' under settings; did you mean 'k_test'?"

    def test_an_unknown_key_at_the_top_is_refused_too(self, write: Write) -> None:
        path = write("title:", "titel: x\ntitle:")
        assert message_of(path) == f"{path}: unknown key 'titel'; did you mean 'title'?"

    def test_an_unknown_key_like_no_other_gets_the_list(self, write: Write) -> None:
        path = write("{image_size: 384}", "{image_size: 384, zzz: 1}")
        assert message_of(path) == f"{path}: unknown key 'zzz' under model; known: image_size"

    def test_an_unknown_key_in_a_list_is_placed(self, write: Write) -> None:
        path = write("main_metric:", "sources: [{file: a.json, ulr: x}]\nmain_metric:")
        assert message_of(path) == f"{path}: unknown key 'ulr' under sources.0; did you mean 'url'?"

    def test_a_missing_key_is_named(self, write: Write) -> None:
        path = write("  max_words: 30\n")
        assert message_of(path) == f"{path}: missing key 'max_words' under data"

    @pytest.mark.parametrize("value", ["0", "-3", "many", "1.5"])
    def test_a_value_out_of_range_is_shown(self, write: Write, value: str) -> None:
        path = write("k_test: 8", f"k_test: {value}")
        message = message_of(path)
        assert message.startswith(f"{path}: settings.k_test: ")
        assert value in message

    def test_every_problem_is_told_at_once(self, write: Write) -> None:
        path = write("settings: {k_test: 8}", "settings: {k_test: 0, rerank: clip}")
        assert [line.split(": ")[1] for line in message_of(path).splitlines()] == ["settings.k_test", "settings.rerank"]

    def test_an_unknown_protocol_gets_the_nearest_one(self, write: Write) -> None:
        path = write("protocol: retrieval", "protocol: retreival")
        assert message_of(path).startswith(f"{path}: protocol: unknown 'retreival'; did you mean 'retrieval'?")

    def test_a_split_without_a_file_is_refused(self, write: Write) -> None:
        path = write("max_words: 30", "max_words: 30\n  split: val")
        assert message_of(path) == f"{path}: data: split 'val' has no file under annotations (test)"

    def test_a_name_that_is_not_the_files_is_refused(self, write: Write) -> None:
        path = write("name: mine", "name: yours")
        assert message_of(path) == f"{path}: name: 'yours' must equal the file name, 'mine'"

    def test_malformed_yaml_is_placed_by_line(self, write: Write) -> None:
        path = write("settings: {k_test: 8}", "settings: {k_test: 8")
        assert message_of(path).startswith(f"{path}:10: malformed YAML: ")

    @pytest.mark.parametrize("text", ["", "just words", "- a\n- b"])
    def test_a_file_that_is_no_mapping_is_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        assert "expected 'key: value' lines" in message_of(path)

    def test_yaml_runs_no_code(self, write: Write) -> None:
        path = write("title: My own images", "title: !!python/object/apply:os.getcwd []")
        assert "malformed YAML" in message_of(path)

    def test_bytes_that_are_not_text_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_bytes(b"\xff\xfe\x00")
        assert "cannot be read" in message_of(path)


class TestFlags:
    def test_a_flag_replaces_a_setting(self) -> None:
        task = tasks.override_settings(tasks.load_task("retrieval_coco"), {"k_test": 16, "rerank": None})
        assert task.settings == RetrievalSettings(k_test=16, rerank="itm")

    def test_a_value_out_of_range_names_the_flag(self) -> None:
        with pytest.raises(UsageError, match="--k-test 0: input should be greater than 0"):
            tasks.override_settings(tasks.load_task("retrieval_coco"), {"k_test": 0})

    def test_a_setting_that_the_protocol_lacks_names_the_flag(self) -> None:
        with pytest.raises(UsageError, match="--beams: retrieval_coco"):
            tasks.override_settings(tasks.load_task("retrieval_coco"), {"beams": 3})
