import io
from collections.abc import Iterator

import pytest

from blipbench.progress import stage_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def ticks() -> Iterator[float]:
    """A clock that moves four seconds each time it is read."""
    return iter(range(0, 1000, 4))


def test_a_log_file_gets_a_line_at_the_start_and_one_at_the_end(ticks: Iterator[float]) -> None:
    log = io.StringIO()
    with stage_progress("embed", "images", 40, stream=log, clock=lambda: next(ticks)) as advance:
        advance(40)
    assert log.getvalue() == "embed: 40 images\nembed: done, 40/40 images in 8.0s, 5 images/s\n"


def test_a_long_stage_says_now_and_then_how_long_it_will_take(ticks: Iterator[float]) -> None:
    log = io.StringIO()
    with stage_progress("rerank", "pairs", 1200, stream=log, clock=lambda: next(ticks)) as advance:
        for _ in range(6):
            advance(200)
    assert log.getvalue().splitlines()[1:-1] == [
        "rerank: 600/1,200 pairs, 50 pairs/s, 12.0s left",
        "rerank: 1,200/1,200 pairs, 50 pairs/s, 0.0s left",
    ]


def test_what_an_earlier_run_did_counts_towards_the_total_and_not_the_rate(ticks: Iterator[float]) -> None:
    log = io.StringIO()
    with stage_progress("rerank", "pairs", 100, 80, stream=log, clock=lambda: next(ticks)) as advance:
        advance(20)
    first, last = log.getvalue().splitlines()
    assert first == "rerank: 100 pairs, 80 of them already done"
    assert last == "rerank: done, 100/100 pairs in 8.0s, 2.5 pairs/s"


def test_a_stage_that_fails_says_how_far_it_came(ticks: Iterator[float]) -> None:
    log = io.StringIO()

    def interrupted() -> None:
        with stage_progress("rerank", "pairs", 100, stream=log, clock=lambda: next(ticks)) as advance:
            advance(32)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert log.getvalue().splitlines()[-1] == "rerank: stopped at 32/100 pairs in 8.0s, 4 pairs/s"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with stage_progress("rerank", "pairs", 100, stream=terminal) as advance:
        advance(100)
    shown = terminal.getvalue()
    assert "rerank" in shown
    assert "100/100 pairs" in shown


def test_ranks_other_than_the_first_are_silent() -> None:
    log = io.StringIO()
    with stage_progress("rerank", "pairs", 100, enabled=False, stream=log) as advance:
        advance(100)
    assert log.getvalue() == ""
