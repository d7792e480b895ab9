import copy
import io
from typing import Any

import pytest
from sample_result import RECORD

from blipbench.config.tasks import load_task
from blipbench.evaluation.result import Result
from blipbench.reporting.published import PublishedRow
from blipbench.reporting.terminal import incomparable, print_result, render_result, result_console

PUBLISHED = PublishedRow(
    model="BLIP ViT-B",
    task="retrieval_coco",
    split="Karpathy test 5K, finetuned on COCO",
    metrics={"txt_r1": 81.9, "img_r1": 64.3},
    source="arXiv:2201.12086 Table 5",
    note="pre-training images 129M",
)


def result_with(**changes: Any) -> Result:
    """The result above with fields replaced; `data__images=10` reaches into `data`."""
    record = copy.deepcopy(RECORD)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = record
        for parent in parents:
            target = target[parent]
        target[last] = value
    return Result.model_validate(record)


def rendered(result: Result, published: PublishedRow | None = PUBLISHED) -> str:
    stream = io.StringIO()
    render_result(result, load_task("retrieval_coco"), published, result_console(stream))
    return stream.getvalue()


def unfolded(text: str) -> str:
    return " ".join(text.split())


def row_of(text: str, name: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [name])


def test_a_metric_stands_beside_its_interval_and_the_published_figure() -> None:
    assert row_of(rendered(result_with()), "txt_r1") == ["txt_r1", "81.94", "80.90", "..", "83.00", "81.9"]


def test_what_has_no_interval_or_published_figure_says_so() -> None:
    assert row_of(rendered(result_with()), "r_mean") == ["r_mean", "86.13", "-", "-"]


def test_without_a_published_row_there_is_no_such_column() -> None:
    assert "published" not in rendered(result_with(), published=None)


def test_the_caption_says_what_was_measured() -> None:
    text = unfolded(rendered(result_with()))
    assert "model_base_retrieval_coco.pth (sha256 0123456789ab), 223.7 M parameters" in text
    assert "5,000 images, 25,010 texts (test); k_test 256" in text
    assert "fp32 on a CPU, 2 threads" in text


def test_the_tasks_caveats_stand_beside_the_figures() -> None:
    assert load_task("retrieval_coco").caveats[0] in unfolded(rendered(result_with()))


def test_a_limited_run_is_not_comparable() -> None:
    text = unfolded(rendered(result_with(data__counts__images=100, data__limited_from=5000)))
    assert "limit 100 of 5,000 images: not comparable with the published row" in text


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"task__split": "val"}, "split val"),
        ({"task__settings": {"k_test": 16}}, "k_test 16 instead of 256"),
        ({"task__settings": {"rerank": "none"}}, "rerank none instead of itm"),
        ({"model__image_size": 224}, "image_size 224 instead of 384"),
        ({"units__failed": 3}, "3 units failed"),
    ],
)
def test_whatever_strays_from_the_protocol_is_not_comparable(changes: dict[str, Any], reason: str) -> None:
    assert incomparable(result_with(**changes), load_task("retrieval_coco")) == [reason]


def test_a_run_by_the_protocol_is_comparable() -> None:
    assert incomparable(result_with(), load_task("retrieval_coco")) == []


def test_a_stage_shows_its_rate_and_its_share_of_the_peak() -> None:
    text = rendered(result_with())
    assert row_of(text, "rerank") == ["rerank", "800", "pairs", "(+200", "resumed)", "4.0", "200", "2", "50%"]


def test_the_peak_of_several_processes_is_theirs_together() -> None:
    text = rendered(result_with(environment__world_size=2))
    assert row_of(text, "rerank")[-1] == "25%"


def test_a_stage_that_was_all_resumed_has_no_rate() -> None:
    stage = {"name": "rerank", "noun": "pairs", "items": 0, "reused_items": 9, "flops": 0.0, "seconds": 0.1}
    text = rendered(result_with(timing__stages=[stage]))
    assert row_of(text, "rerank") == ["rerank", "0", "pairs", "(+9", "resumed)", "0.1", "-", "-", "-"]


def test_the_self_check_is_one_sentence() -> None:
    assert (
        "self-check: 32 pairs recomputed in plain fp32: largest deviation 3.1e-07 (bound 1e-04), 0 of 8 ranks changed"
        in unfolded(rendered(result_with()))
    )


def test_a_suspect_result_says_so() -> None:
    result = result_with(status="suspect", self_check__suspect=True, self_check__deviation=None)
    text = unfolded(rendered(result))
    assert "SUSPECT, the fast scores are too far from the plain ones; self-check" in text
    assert "deviation not a number" in text


def test_an_incomplete_result_lists_its_failures_and_counts_the_rest() -> None:
    failures = [{"stage": "embed", "unit": f"image-{i}", "error": "cannot be decoded"} for i in range(12)]
    text = unfolded(rendered(result_with(status="incomplete", units__failed=12, units__done=468, failures=failures)))
    assert "incomplete: 468 of 480 units done, 12 failed" in text
    assert "embed image-9: cannot be decoded" in text
    assert "image-10" not in text
    assert "and 2 more in result.json" in text


def test_a_complete_result_needs_no_status_line() -> None:
    assert "units done" not in rendered(result_with())


def test_brackets_in_names_are_shown_as_they_are() -> None:
    assert "[red]odd[/].pth" in rendered(result_with(model__file="[red]odd[/].pth"))


def test_piped_output_keeps_to_80_columns_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    text = rendered(result_with(data__counts__images=100, data__limited_from=5000))
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text


def test_no_color_is_honoured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    suspect = result_with(status="suspect", self_check__suspect=True)
    render_result(suspect, None, PUBLISHED, result_console(stream))
    assert "\x1b[31" not in stream.getvalue()
    assert "\x1b[1;31" not in stream.getvalue()


def test_a_record_is_printed_with_its_official_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result_with())
    text = capsys.readouterr().out
    assert row_of(text, "txt_r1")[-1] == "81.9"


def test_a_record_of_an_unknown_task_is_printed_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    print_result(result_with(task={**RECORD["task"], "name": "mine_elsewhere"}))
    assert row_of(capsys.readouterr().out, "txt_r1") == ["txt_r1", "81.94", "80.90", "..", "83.00"]
