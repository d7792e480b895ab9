"""`data verify` lists everything that is wrong, not only the first."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blipbench.data.verify import VerifyReport, verify_retrieval


def make(root: Path, names: str = "abcd") -> list[dict[str, Any]]:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for name in names:
        Image.fromarray(noise).save(root / f"{name}.jpg")
    return [{"image": f"{name}.jpg", "caption": [f"A {name}.", "Two."]} for name in names]


def verify(root: Path, records: Any, **settings: Any) -> VerifyReport:
    (root / "t.json").write_text(json.dumps(records))
    return verify_retrieval(root, "t.json", name="mine", split="test", max_words=30, **settings)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("deep", [False, True])
def test_sound_data_is_ok_and_counted(tmp_path: Path, deep: bool) -> None:
    report = verify(tmp_path, make(tmp_path), deep=deep)
    assert report.ok
    assert (report.images, report.texts) == (4, 8)
    assert report.lines()[0] == "mine (test): 4 images, 8 texts"
    assert report.lines()[-1].startswith("ok: every image")


def test_bad_records_missing_images_and_bad_headers_are_all_listed(tmp_path: Path) -> None:
    records = make(tmp_path)
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "b.jpg").write_text("page")
    records += [{"image": "e.jpg", "caption": []}, {"image": "./d.jpg", "caption": ["again"]}]
    report = verify(tmp_path, records)
    text = "\n".join(report.lines())
    assert not report.ok
    assert len(report.problems) == 4
    for part in (
        "record 5: image 'e.jpg' has an empty",
        "records 4 and 6 are the same",
        ": a.jpg; run",
        "b.jpg: not an",
    ):
        assert part in text
    assert "4 problems:" in text


@pytest.mark.parametrize("workers", [0, 2])
def test_the_deep_check_finds_every_truncated_image(tmp_path: Path, workers: int) -> None:
    records = make(tmp_path)
    truncate(tmp_path / "b.jpg")
    truncate(tmp_path / "d.jpg")
    assert verify(tmp_path, records).ok  # their headers are whole
    report = verify(tmp_path, records, deep=True, workers=workers)
    assert [problem.split(":")[0] for problem in report.problems] == [str(tmp_path / "b.jpg"), str(tmp_path / "d.jpg")]


def test_an_absent_annotation_is_a_problem_not_an_error(tmp_path: Path) -> None:
    report = verify_retrieval(tmp_path, "t.json", name="mine", split="test", max_words=30)
    assert not report.ok
    assert "run `blipbench data prepare mine`" in report.lines()[-1]


def test_malformed_json_is_a_problem_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("[1,")
    report = verify_retrieval(tmp_path, "t.json", name="mine", split="test", max_words=30)
    assert report.annotation == tmp_path / "t.json"
    assert "line 1, column 4" in report.problems[0]


def test_empty_captions_are_noted_but_allowed(tmp_path: Path) -> None:
    report = verify(tmp_path, [*make(tmp_path, "a"), *[{**make(tmp_path, "b")[0], "caption": ["!"]}]])
    assert report.ok
    assert "note: 1 captions are empty after normalisation; they count as texts" in report.lines()


@pytest.mark.parametrize("deep", [False, True])
def test_progress_reaches_the_number_of_images(tmp_path: Path, deep: bool) -> None:
    seen: list[tuple[int, int]] = []
    verify(tmp_path, make(tmp_path), deep=deep, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4)
