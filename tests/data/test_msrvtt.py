"""MSRVTT's annotation and videos as published become a retrieval data set of clips."""

import json
from pathlib import Path
from typing import Any

import pytest

from blipbench.data.dataset import RetrievalDataset, Video
from blipbench.data.msrvtt import read_msrvtt
from blipbench.errors import DataError, UsageError

RECORDS = [
    {"clip_name": "video7020", "caption": "A woman creating a fondant baby.", "retrieval_key": "ret0"},
    {"clip_name": "video7021", "caption": "a boy playing grand theft auto 5", "retrieval_key": "ret1"},
    {"clip_name": "video7024", "caption": "a man is giving a review on a vehicle", "retrieval_key": "ret2"},
]


def read(root: Path, records: list[dict[str, Any]], limit: int | None = None) -> RetrievalDataset:
    annotation = root / "msrvtt_test.jsonl"
    annotation.write_text("\n".join(map(json.dumps, records)) + "\n")
    return read_msrvtt(root, annotation, name="retrieval_msrvtt", split="test", max_words=40, limit=limit)


def put_videos(root: Path, folder: str) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for record in RECORDS:
        (root / folder / f"{record['clip_name']}.mp4").write_bytes(b"some bytes")


@pytest.mark.parametrize("folder", ["", "videos", "videos/all", "TestVideo", "TrainValVideo"])
def test_a_line_is_a_clip_of_eight_frames_with_one_caption(tmp_path: Path, folder: str) -> None:
    put_videos(tmp_path, folder)
    dataset = read(tmp_path, RECORDS)
    assert dataset.is_video and dataset.frames == 8
    assert list(dataset.sources) == [Video(tmp_path / folder / f"{r['clip_name']}.mp4", 8) for r in RECORDS]
    assert dataset.names == ["video7020", "video7021", "video7024"]
    assert dataset.texts[0] == "a woman creating a fondant baby"
    assert dataset.image_of_text.tolist() == [0, 1, 2]
    assert dataset.counts == {"clips": 3, "texts": 3}


def test_captions_are_cut_at_forty_words(tmp_path: Path) -> None:
    put_videos(tmp_path, "videos")
    records = [{**RECORDS[0], "caption": " ".join(f"w{number}" for number in range(50))}]
    assert len(read(tmp_path, records).texts[0].split()) == 40


def test_limit_takes_the_first_clips_and_looks_for_no_others(tmp_path: Path) -> None:
    put_videos(tmp_path, "videos")
    (tmp_path / "videos" / "video7024.mp4").unlink()
    dataset = read(tmp_path, RECORDS, limit=2)
    assert (dataset.counts, dataset.limited_from) == ({"clips": 2, "texts": 2}, 3)
    with pytest.raises(UsageError, match="--limit 0"):
        read(tmp_path, RECORDS, limit=0)


def test_missing_and_empty_videos_are_counted_and_named(tmp_path: Path) -> None:
    put_videos(tmp_path, "videos")
    (tmp_path / "videos" / "video7020.mp4").write_bytes(b"")
    (tmp_path / "videos" / "video7024.mp4").unlink()
    with pytest.raises(DataError, match=r"2 of 3 videos are missing.*video7020.mp4 \(an empty file\).*data prepare"):
        read(tmp_path, RECORDS)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"clip_name": "video7020"}, "line 3: clip 'video7020' is also that of .*line 1"),
        ({"clip_name": "../x"}, "line 3: clip_name '../x' leaves the data folder"),
        ({"clip_name": None}, "line 3: there is no 'clip_name'"),
        ({"caption": 7}, "line 3: 'caption' is a number"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    put_videos(tmp_path, "videos")
    with pytest.raises(DataError, match=message):
        read(tmp_path, [*RECORDS[:2], {**RECORDS[2], **change}])
