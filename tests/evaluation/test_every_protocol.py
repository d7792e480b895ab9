"""What every benchmark keeps, whatever its protocol: ranks, kills, resumes, and what a user sees when data are wrong.

One test a property, over all golden tasks. What only one protocol can meet is in its own file (`test_cli_*.py`); what
needs torchrun or a terminal's signals is in `test_resume.py`.
"""

import dataclasses
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from command_line import blipbench, edit, golden_arguments, result_of, says
from forked import Ended, run_forked
from goldens import GOLDEN
from make_clips import write_msrvtt


@dataclasses.dataclass(frozen=True)
class Case:
    """A golden task. `picture` is a file that one unit reads, `last_stage` the one a run is killed in. `official` is
    the file that a refusal of `other_checkpoint` names. `twice`: a field, and what is said where two records have the
    same value in it."""

    task: str
    checkpoint: str
    last_stage: str
    annotation: str
    picture: str
    other_checkpoint: str
    official: str
    twice: tuple[str, str] | None
    sizes: str = "tiny.yaml"
    make_data: Callable[[Path], None] = lambda folder: shutil.copytree(GOLDEN / "data", folder)

    def arguments(self, out: Path, **changes: object) -> list[str]:
        """A run of it; a change replaces or adds a flag."""
        ours = {"ckpt": GOLDEN / f"{self.checkpoint}.pth", "model": GOLDEN / self.sizes, "on_error": "continue"}
        return golden_arguments(out, self.task, **{**ours, "device": "cpu", **changes})

    def folder(self, out: Path) -> Path:
        return out / self.task / self.checkpoint

    def result(self, out: Path) -> dict[str, Any]:
        return result_of(out, self.task, self.checkpoint)

    def samples(self, out: Path) -> dict[str, pd.DataFrame]:
        """By stage."""
        return {file.stem: pq.read_table(file).to_pandas() for file in (self.folder(out) / "samples").glob("*.parquet")}


COCO, PICTURE, RETRIEVAL = "coco_karpathy_test.json", "images/ship_003.png", "model_base_retrieval_coco.pth"
CASES = [
    Case(
        *("retrieval_golden", "tiny_retrieval", "rerank", COCO, PICTURE, "tiny_vqa", RETRIEVAL),
        twice=("image", "records 1 and 2 are the same image 'images/ship_000.png'"),
    ),
    Case(
        *("retrieval_msrvtt_golden", "tiny_retrieval", "rerank", "msrvtt_test.jsonl", "videos/video3.mp4"),
        *("tiny_caption", RETRIEVAL),
        twice=("clip_name", "line 2: clip 'video0' is also that of"),
        make_data=write_msrvtt,
    ),
    Case(
        *("caption_golden", "tiny_caption", "caption", COCO, PICTURE, "tiny_retrieval", "model_base_capfilt_large.pth"),
        twice=("image", "records 1 and 2 are the same image 'images/ship_000.png'"),
    ),
    Case(
        *("nocaps_golden", "tiny_caption", "caption", "nocaps_val.json", PICTURE, "tiny_itm", "model_base.pth"),
        twice=("img_id", "img_id 1000 is there 2 times"),
    ),
    Case(
        *("vqa_golden", "tiny_vqa", "answer", "vqa_test.json", PICTURE, "tiny_caption", "model_base_vqa"),
        twice=("question_id", "record 2: question_id 5000 is also that of record 1"),
    ),
    Case(
        *("vqa_generate_golden", "tiny_vqa", "answer", "vqa_test.json", PICTURE, "tiny_retrieval", "model_base_vqa"),
        twice=("question_id", "record 2: question_id 5000 is also that of record 1"),
    ),
    Case(
        *("nlvr_golden", "tiny_nlvr", "reason", "nlvr_test.json", PICTURE, "tiny_vqa", "model_base_nlvr.pth"),
        twice=None,  # a pair of images with a sentence has no id
        sizes="tiny_nlvr.yaml",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def without_java(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Java takes seconds to score captions, and the scores hang on the samples alone, which are compared."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", str(tmp_path_factory.mktemp("bin")))
        yield


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.task)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def sound_data(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    folder = tmp_path_factory.mktemp("sound") / "data"
    case.make_data(folder)
    return folder


@pytest.fixture(scope="module")
def whole(case: Case, sound_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one process has run the task without any trouble."""
    out = tmp_path_factory.mktemp("whole")
    ended_well(run_forked(case.arguments(out, data=sound_data)))
    return out


@pytest.fixture
def data(sound_data: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(sound_data, tmp_path / "data"))


@pytest.fixture
def run(case: Case, data: Path, tmp_path: Path) -> Callable[..., Result]:
    def with_changes(*flags: str, **changes: object) -> Result:
        return blipbench(*case.arguments(tmp_path / "runs", data=data, **changes), *flags)

    return with_changes


def ended_well(ranks: list[Ended]) -> None:
    assert all(rank.exit_code == 0 for rank in ranks), ranks


def assert_same(case: Case, out: Path, whole: Path) -> None:
    """Metrics to the bit; samples but for what the size of a batch does to a float."""
    assert case.result(out)["metrics"] == case.result(whole)["metrics"]
    ours, theirs = case.samples(out), case.samples(whole)
    assert ours.keys() == theirs.keys()
    for stage, samples in ours.items():
        pd.testing.assert_frame_equal(samples, theirs[stage], check_exact=False, rtol=1e-4, atol=1e-5)


def test_two_ranks_give_the_metrics_and_samples_of_one(
    case: Case, sound_data: Path, whole: Path, tmp_path: Path
) -> None:
    ended_well(run_forked(case.arguments(tmp_path, data=sound_data), ranks=2))
    assert_same(case, tmp_path, whole)
    assert case.result(tmp_path)["environment"]["world_size"] == 2


def test_a_killed_run_is_resumed_where_it_was(case: Case, sound_data: Path, whole: Path, tmp_path: Path) -> None:
    (killed,) = run_forked(case.arguments(tmp_path, data=sound_data), killed_at_part=(case.last_stage, 3))
    assert killed.exit_code == -signal.SIGKILL
    assert not (case.folder(tmp_path) / "result.json").exists()
    parts = list((case.folder(tmp_path) / "samples" / case.last_stage).glob("[!.]*.parquet"))
    assert len(parts) == 2
    kept = {unit for part in parts for unit in pq.read_table(part).column("unit").to_pylist()}

    ended_well(run_forked([*case.arguments(tmp_path, data=sound_data), "--resume"]))
    assert_same(case, tmp_path, whole)
    *earlier, resumed = case.result(tmp_path)["timing"]["stages"]
    in_whole = case.result(whole)["timing"]["stages"][-1]["items"]
    assert len(kept) == 2 and resumed["reused_items"] > 0
    assert resumed["items"] + resumed["reused_items"] == in_whole
    assert all(stage["items"] == 0 for stage in earlier)


def test_a_file_cut_short_fails_alone_and_mended_it_is_all_that_is_computed_again(
    case: Case, run: Callable[..., Result], data: Path, whole: Path, tmp_path: Path
) -> None:
    picture = data / case.picture
    sound = picture.read_bytes()
    picture.write_bytes(sound[: len(sound) // 2])
    says(run(), 1, case.picture, "incomplete")
    told = case.result(tmp_path / "runs")
    assert told["status"] == "incomplete" and told["units"]["failed"] == 1
    assert [picture.name in failure["error"] for failure in told["failures"]] == [True]

    picture.write_bytes(sound)
    says(run("--resume"), 0)
    first = case.result(tmp_path / "runs")["timing"]["stages"][0]
    assert (first["items"], first["reused_items"]) == (1, case.result(whole)["timing"]["stages"][0]["items"] - 1)
    assert case.result(tmp_path / "runs")["metrics"] == case.result(whole)["metrics"]


def test_a_missing_file_is_named_before_any_work(
    case: Case, run: Callable[..., Result], data: Path, tmp_path: Path
) -> None:
    (data / case.picture).unlink()
    says(run(), 1, "is missing", Path(case.picture).name, f"blipbench data prepare {case.task}")
    assert not (tmp_path / "runs").exists()


def test_an_annotation_cut_short(case: Case, run: Callable[..., Result], data: Path, tmp_path: Path) -> None:
    annotation = data / case.annotation
    annotation.write_bytes(annotation.read_bytes()[:-20])
    says(run(), 1, case.annotation, "line", "JSON")
    assert not (tmp_path / "runs").exists()


def test_an_annotation_that_is_not_there(case: Case, run: Callable[..., Result], data: Path) -> None:
    (data / case.annotation).unlink()
    says(run(), 1, case.annotation, f"blipbench data prepare {case.task}")


@pytest.mark.parametrize("case", [case for case in CASES if case.twice], ids=lambda case: case.task, indirect=True)
def test_two_records_with_one_id(case: Case, run: Callable[..., Result], data: Path, tmp_path: Path) -> None:
    assert case.twice is not None
    field, told = case.twice
    annotation = data / case.annotation
    if annotation.suffix == ".jsonl":
        lines = [json.loads(line) for line in annotation.read_text().splitlines()]
        lines[1][field] = lines[0][field]
        annotation.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        edit(annotation, lambda records: records[1].update({field: records[0][field]}))
    says(run(), 1, case.annotation, told)
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_of_another_kind_is_refused_by_name(
    case: Case, run: Callable[..., Result], tmp_path: Path
) -> None:
    done = run(ckpt=GOLDEN / f"{case.other_checkpoint}.pth", model=GOLDEN / "tiny.yaml")
    says(done, 2, f"{case.other_checkpoint}.pth", case.official)
    assert not (tmp_path / "runs").exists()
