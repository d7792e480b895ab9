"""What several commands share: options of one meaning, and what their values come to."""

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blipbench.errors import UsageError

if TYPE_CHECKING:
    from blipbench.evaluation.loop import Progress
    from blipbench.evaluation.ranks import Ranks

tasks_dir_option = click.option(
    "--tasks-dir", type=click.Path(path_type=Path), help="Your own task definitions; they come before the shipped ones."
)
prompt_option = click.option(
    "--prompt",
    default="a picture of ",
    show_default=True,
    help="What every caption begins with, as the captioner was trained; it is not part of the caption.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of tables.")


def refuse_both(resume: bool, fresh: bool) -> None:
    """Raise UsageError where --resume and --fresh are both given."""
    if resume and fresh:
        raise UsageError("--resume and --fresh: choose one")


def stops_on_error(on_error: str | None) -> bool:
    """What --on-error says, or its default: stop where CI is set."""
    return (on_error or ("stop" if os.environ.get("CI") else "continue")) == "stop"


def progress_of(ranks: "Ranks") -> "Progress":
    """A stage's progress on stderr, shown by rank 0 alone."""
    from blipbench.progress import stage_progress

    return functools.partial(stage_progress, enabled=ranks.is_main)
