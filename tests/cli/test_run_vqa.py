"""`blipbench run` of VQA as a user meets it: golden answers, accuracy, and what is said when something is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from command_line import blipbench, edit, golden_arguments, result_of, says
from goldens import GOLDEN, Golden

Run = Callable[..., Result]


@pytest.fixture
def data(golden: Golden, tmp_path: Path) -> Path:
    shutil.copytree(golden.data, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Run:
    def with_changes(*flags: str, task: str = "vqa_golden", **changes: object) -> Result:
        changes = {"ckpt": GOLDEN / "tiny_vqa.pth", "data": data, "on_error": "continue", **changes}
        return blipbench(*golden_arguments(tmp_path / "runs", task, **changes), *flags)

    return with_changes


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A finished run of the golden ranking, to look at: where it ran, and what it said."""
    place = tmp_path_factory.mktemp("ranked")
    return place, blipbench(*golden_arguments(place / "runs", "vqa_golden", ckpt=GOLDEN / "tiny_vqa.pth"))


def folder(tmp_path: Path, task: str = "vqa_golden") -> Path:
    return tmp_path / "runs" / task / "tiny_vqa"


def result(tmp_path: Path, task: str = "vqa_golden") -> dict[str, Any]:
    return result_of(tmp_path / "runs", task, "tiny_vqa")


def server_file(tmp_path: Path, task: str = "vqa_golden") -> Any:
    return json.loads((folder(tmp_path, task) / "vqa_result.json").read_text())


def add_people(records: list[dict[str, Any]], answers: list[str]) -> None:
    """Ten people's answers to each question, of one mind."""
    for record, answer in zip(records, answers, strict=True):
        record["answer"] = [answer] * 10


def test_the_golden_ranked_answers_come_out_of_the_command_line(golden: Golden, ranked: tuple[Path, Result]) -> None:
    place, done = ranked
    says(done, 0, "10 images, 10 questions", "0 of 7 answers changed")
    assert server_file(place) == golden.json("protocols")["vqa_rank"]
    assert result(place)["self_check"]["deviation"] < 1e-5


def test_the_golden_generated_answers_come_out_of_the_command_line(golden: Golden, run: Run, tmp_path: Path) -> None:
    says(run(task="vqa_generate_golden"), 0, "attend_padding True", "0 of 10 answers changed")
    assert server_file(tmp_path, "vqa_generate_golden") == golden.json("protocols")["vqa_generate_batch_4"]


def test_generation_reads_no_answer_list(run: Run, data: Path) -> None:
    (data / "answer_list.json").unlink()
    says(run(task="vqa_generate_golden"), 0)


def test_a_flag_changes_the_mode(run: Run, tmp_path: Path) -> None:
    says(run(mode="generate"), 0, "mode generate")
    assert server_file(tmp_path)[4]["answer"] == "it isn't there"  # ranking says red


def test_a_split_without_public_answers_says_where_the_accuracy_comes_from(ranked: tuple[Path, Result]) -> None:
    place, done = ranked
    says(done, 0, "no public answers: submit vqa_result.json")
    assert result(place)["metrics"] == {}


def test_people_answers_give_the_accuracy(golden: Golden, run: Run, data: Path, tmp_path: Path) -> None:
    ours = [entry["answer"] for entry in golden.json("protocols")["vqa_rank"]]
    edit(data / "vqa_test.json", lambda records: add_people(records, [*ours[:7], "otter", "otter", "otter"]))
    says(run(), 0, "accuracy", "70.00")
    assert result(tmp_path)["metrics"]["accuracy"]["value"] == pytest.approx(70)
    assert server_file(tmp_path) == golden.json("protocols")["vqa_rank"]


def test_score_needs_neither_model_nor_data(golden: Golden, run: Run, data: Path, tmp_path: Path) -> None:
    ours = [entry["answer"] for entry in golden.json("protocols")["vqa_rank"]]
    edit(data / "vqa_test.json", lambda records: add_people(records, ours))
    run()
    before = result(tmp_path)
    shutil.rmtree(data)
    (folder(tmp_path) / "vqa_result.json").unlink()
    says(blipbench("score", folder(tmp_path)), 0, "100.00")
    assert result(tmp_path) == before
    assert server_file(tmp_path) == golden.json("protocols")["vqa_rank"]


def test_samples_hold_the_best_candidates_with_their_scores(ranked: tuple[Path, Result]) -> None:
    rows = pq.read_table(folder(ranked[0]) / "samples" / "answer.parquet").to_pylist()
    for row in rows:
        assert row["candidates"][0] == row["answer"]
        assert len(row["candidates"]) == 5
        assert row["scores"] == sorted(row["scores"], reverse=True)


def test_questions_about_one_image_are_one_unit(run: Run, data: Path, tmp_path: Path) -> None:
    def share(records: list[dict[str, Any]]) -> None:
        for record in records[5:]:
            record["image"] = records[0]["image"]

    edit(data / "vqa_test.json", share)
    says(run(), 0, "5 images, 10 questions")
    assert result(tmp_path)["units"] == {"expected": 5, "done": 5, "failed": 0}
    assert [entry["question_id"] for entry in server_file(tmp_path)] == [5000 + 11 * at for at in range(10)]


def test_a_truncated_image_fails_its_questions_alone(run: Run, data: Path, tmp_path: Path) -> None:
    picture = data / "images" / "ship_003.png"
    picture.write_bytes(picture.read_bytes()[:100])
    says(run(), 1, "ship_003.png", "incomplete")
    assert result(tmp_path)["units"] == {"expected": 10, "done": 9, "failed": 1}
    assert 5033 not in [entry["question_id"] for entry in server_file(tmp_path)]


def test_an_empty_answer_in_the_list(run: Run, data: Path) -> None:
    (data / "answer_list.json").write_text('["yes", ""]')
    says(run(), 1, "answer_list.json: answer 2 is empty")


def test_a_question_with_no_answer(run: Run, data: Path, tmp_path: Path) -> None:
    edit(data / "vqa_test.json", lambda records: add_people(records, ["red"] * 10))
    edit(data / "vqa_test.json", lambda records: records[3].update(answer=[]))
    says(run(), 1, "vqa_test.json: record 4: 'answer' is an empty list: a question with no answer")
    assert not (tmp_path / "runs").exists()


def test_ranking_cannot_attend_to_padding(run: Run) -> None:
    says(run(task="vqa_generate_golden", mode="rank"), 2, "only mode 'generate' can attend to padding")


def test_limit_counts_images(run: Run, tmp_path: Path) -> None:
    says(run(limit=4), 0, "limited to 4 of 10")
    assert result(tmp_path)["data"]["counts"]["questions"] == 4


def test_bfloat16_is_held_to_its_own_bound(run: Run, tmp_path: Path) -> None:
    says(run("--amp"), 0)
    assert 1e-5 < result(tmp_path)["self_check"]["deviation"] < result(tmp_path)["self_check"]["bound"]
