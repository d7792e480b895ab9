from pathlib import Path

import pytest

from blipbench.config import paths


@pytest.mark.parametrize(
    "parts",
    [
        ("tasks", "retrieval_coco.yaml"),
        ("configs", "models", "base.yaml"),
        ("leaderboards", "published.json"),
    ],
)
def test_a_shipped_file_is_found(parts: tuple[str, ...]) -> None:
    assert paths.data_file(*parts).is_file()


def test_an_installed_wheel_reads_the_files_packed_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_data").mkdir()
    monkeypatch.setattr(paths, "PACKAGE", tmp_path)
    assert paths.data_file("tasks", "x.yaml") == tmp_path / "_data" / "tasks" / "x.yaml"


def test_a_checkout_reads_the_folders_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "blipbench")
    assert paths.data_file("tasks") == tmp_path / "tasks"


def test_a_users_folder_comes_before_the_shipped_one(tmp_path: Path) -> None:
    assert paths.search_path(tmp_path, "tasks") == (tmp_path, paths.data_file("tasks"))


def test_without_a_users_folder_only_the_shipped_one_is_searched() -> None:
    assert paths.search_path(None, "tasks") == (paths.data_file("tasks"),)
