"""`blipbench run` and `score` as a user meets them."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import GOLDEN_TASKS, blipbench, golden_arguments, result_of, says
from forked import run_forked
from goldens import GOLDEN, Golden

from blipbench.device import DEVIATION_BOUNDS


@pytest.mark.parametrize("k_test", [6, 12])
def test_the_golden_metrics_come_out_of_the_command_line(golden: Golden, tmp_path: Path, k_test: int) -> None:
    done = blipbench(*golden_arguments(tmp_path, k_test=k_test))
    assert done.exit_code == 0, done.output
    told = golden.json(f"retrieval_k{k_test}")
    metrics = {name: metric["value"] for name, metric in result_of(tmp_path)["metrics"].items()}
    assert metrics.keys() == told["metrics"].keys()
    assert all(metrics[name] == value for name, value in told["metrics_free_of_ties"].items())


def test_the_table_shows_metrics_intervals_stages_and_the_self_check(tmp_path: Path) -> None:
    printed = blipbench(*golden_arguments(tmp_path)).output
    for expected in ["txt_r1", "83.33", "img_r1", "56.67", "r_mean", "embed", "rerank", "self-check", "rank"]:
        assert expected in printed


def test_json_prints_the_result_on_one_line_of_stdout(tmp_path: Path) -> None:
    done = blipbench(*golden_arguments(tmp_path), "--json")
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == result_of(tmp_path)


def test_a_result_says_what_it_was_computed_from(tmp_path: Path) -> None:
    blipbench(*golden_arguments(tmp_path))
    result = result_of(tmp_path)
    assert result["status"] == "complete"
    assert len(result["model"]["sha256"]) == len(result["data"]["annotation_sha256"]) == 64
    assert result["task"]["settings"]["k_test"] == 6
    assert result["data"]["counts"] == {"images": 12, "texts": 60}
    assert result["units"] == {"expected": 13 + 12, "done": 25, "failed": 0}
    assert result["self_check"]["suspect"] is False
    assert result["environment"]["precision"] == "fp32"
    rerank = result["timing"]["stages"][1]
    assert rerank["noun"] == "pairs" and rerank["items"] > 0 and rerank["flops"] > 0


def test_limit_takes_the_first_images_and_says_so(tmp_path: Path) -> None:
    done = blipbench(*golden_arguments(tmp_path, limit=4))
    assert done.exit_code == 0, done.output
    data = result_of(tmp_path)["data"]
    assert (data["counts"], data["limited_from"]) == ({"images": 4, "texts": 20}, 12)
    assert "limited to 4 of 12" in done.output


def test_rerank_none_evaluates_itc_alone(tmp_path: Path) -> None:
    done = blipbench(*golden_arguments(tmp_path, rerank="none"))
    assert done.exit_code == 0, done.output
    assert [stage["name"] for stage in result_of(tmp_path)["timing"]["stages"]] == ["embed"]


def test_bfloat16_is_named_in_the_result_and_held_to_its_own_bound(tmp_path: Path) -> None:
    done = blipbench(*golden_arguments(tmp_path), "--amp")
    assert done.exit_code == 0, done.output
    result = result_of(tmp_path)
    assert result["environment"]["precision"] == "bf16"
    assert 1e-5 < result["self_check"]["deviation"] < result["self_check"]["bound"]


def test_a_result_that_strays_from_the_plain_computation_is_suspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DEVIATION_BOUNDS, "fp32", 1e-12)  # so that float noise is already too much
    done = blipbench(*golden_arguments(tmp_path))
    assert done.exit_code == 1
    assert "SUSPECT" in done.output
    assert result_of(tmp_path)["status"] == "suspect"


def test_score_recomputes_the_metrics_without_a_model(tmp_path: Path) -> None:
    blipbench(*golden_arguments(tmp_path))
    folder = tmp_path / "retrieval_golden" / "tiny_retrieval"
    result = result_of(tmp_path)
    spoilt = {**result, "metrics": {name: {**m, "value": 0.0} for name, m in result["metrics"].items()}}
    (folder / "result.json").write_text(json.dumps(spoilt))
    done = blipbench("score", folder)
    assert done.exit_code == 0, done.output
    assert result_of(tmp_path) == result


def test_score_of_an_unfinished_run_says_how_to_finish_it(tmp_path: Path) -> None:
    blipbench(*golden_arguments(tmp_path))
    folder = tmp_path / "retrieval_golden" / "tiny_retrieval"
    (folder / "result.json").unlink()
    done = blipbench("score", folder)
    assert done.exit_code == 1
    assert "did not finish" in done.output and "--resume" in done.output


def test_a_second_run_into_the_same_folder_is_refused_until_told_how(tmp_path: Path) -> None:
    blipbench(*golden_arguments(tmp_path))
    refused = blipbench(*golden_arguments(tmp_path))
    assert refused.exit_code == 2
    assert "already holds a finished run" in refused.output
    assert blipbench(*golden_arguments(tmp_path), "--fresh").exit_code == 0
    resumed = blipbench(*golden_arguments(tmp_path), "--resume", "--json")
    assert [stage["items"] for stage in json.loads(resumed.stdout)["timing"]["stages"]] == [0, 0]


@pytest.mark.parametrize("change", [{"k_test": 5}, {"precision": "bf16"}, {"limit": 3}, {"seed": 1}])
def test_resume_under_another_setting_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    blipbench(*golden_arguments(tmp_path))
    refused = blipbench(*golden_arguments(tmp_path, **change), "--resume")
    assert refused.exit_code == 2
    assert "holds another run" in refused.output and next(iter(change)).split("_")[0] in refused.output


def test_samples_hold_every_score(tmp_path: Path) -> None:
    blipbench(*golden_arguments(tmp_path))
    folder = tmp_path / "retrieval_golden" / "tiny_retrieval" / "samples"
    assert pq.read_table(folder / "embed.parquet").num_rows == 72
    assert pq.read_table(folder / "rerank.parquet").num_rows == 12
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["embed.parquet", "rerank.parquet"]


def test_several_tasks_go_on_after_one_fails(tmp_path: Path) -> None:
    arguments = golden_arguments(tmp_path)
    done = blipbench("run", "retrieval_shapes", *arguments[1:])
    says(done, 1, "error: retrieval_shapes: annotation file", "1 of 2 tasks failed or are incomplete: retrieval_shapes")
    assert result_of(tmp_path)["status"] == "complete"


def test_several_tasks_that_are_all_wrong_usage_are_wrong_usage(tmp_path: Path) -> None:
    arguments = golden_arguments(tmp_path, split="nowhere")
    done = blipbench("run", "caption_golden", *arguments[1:])
    says(done, 2, "--split nowhere", "2 of 2 tasks failed or are incomplete: caption_golden, retrieval_golden")


def test_several_ranks_go_on_together_after_a_task_that_cannot_start(tmp_path: Path) -> None:
    first, second = run_forked(["run", "retrieval_shapes", *golden_arguments(tmp_path)[1:]], ranks=2)
    assert (first.exit_code, second.exit_code) == (1, 1)
    assert "1 of 2 tasks failed or are incomplete: retrieval_shapes" in first.output
    assert "error" not in second.output
    assert result_of(tmp_path)["status"] == "complete"


def test_a_folder_that_is_refused_ends_all_ranks_and_only_the_one_that_looked_says_why(tmp_path: Path) -> None:
    blipbench(*golden_arguments(tmp_path))
    ranks = run_forked(golden_arguments(tmp_path), ranks=2)
    assert [rank.exit_code for rank in ranks] == [2, 2]
    assert "error: " in ranks[0].output and "already holds a finished run" in ranks[0].output
    assert "error" not in ranks[1].output


def test_a_task_of_ones_own_may_name_its_checkpoint(tmp_path: Path) -> None:
    text = (GOLDEN_TASKS / "retrieval_golden.yaml").read_text()
    (tmp_path / "retrieval_golden.yaml").write_text(f"{text}checkpoint: {GOLDEN / 'tiny_retrieval.pth'}\n")
    arguments = golden_arguments(tmp_path / "runs", tasks_dir=tmp_path)
    at = arguments.index("--ckpt")
    says(blipbench(*arguments[:at], *arguments[at + 2 :]), 0, "checkpoint tiny_retrieval.pth")


def test_without_a_checkpoint_the_official_files_of_the_task_are_named(tmp_path: Path) -> None:
    done = blipbench("run", "retrieval_golden", "--tasks-dir", GOLDEN_TASKS, "--data", GOLDEN / "data")
    says(done, 2, "retrieval_golden: --ckpt is missing; give a checkpoint")
    says(blipbench("run", "nlvr", "--data", tmp_path), 2, "nlvr: --ckpt is missing", "model_base_nlvr.pth")
