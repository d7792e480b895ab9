"""Options that several commands share, defined once, and what their values mean.

A command takes a list of them by `options(...)`, in the order in which its help shows them.
"""

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from blipbench.errors import UsageError

if TYPE_CHECKING:
    from blipbench.evaluation.loop import Progress
    from blipbench.evaluation.ranks import Ranks

Command = TypeVar("Command", bound=Callable[..., Any])


class Text(click.types.StringParamType):
    """A text in valid UTF-8. A shell also passes on other bytes, which tokenizers and parsers cannot read."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = super().convert(value, param, ctx)
        if not _is_utf8(text):
            self.fail(f"{text!r} is not valid UTF-8", param, ctx)
        return text


class Name(Text):
    """A text that is not empty, as that of a shell's variable without a value is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A range without "nan", which click finds to be inside of every range, and "inf"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number", param, ctx)
        return number


class NamedPath(click.Path):
    """A path that is not empty, which Python takes for the current folder, and that results can name in UTF-8."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the name is empty", param, ctx)
        if not _is_utf8(str(value)):
            self.fail(f"the name {str(value)!r} is not valid UTF-8; rename it", param, ctx)
        return super().convert(value, param, ctx)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


TEXT = Text()
NAME = Name()
PATH = NamedPath(path_type=Path)
SEED = click.IntRange(0, 2**32 - 1)
MOST_WORKERS = 1024

_CKPT_HELP = "Checkpoint: a file, a transformers folder, a hub id, or the name of a bundled or official checkpoint"

ckpt_option = click.option("--ckpt", required=True, type=NAME, help=f"{_CKPT_HELP}.")
task_ckpt_option = click.option(
    "--ckpt", type=NAME, help=f"{_CKPT_HELP} (default: the one that the task names, if any)."
)
model_option = click.option(
    "--model", type=NAME, help="Sizes of the model (a name or a YAML file), if they cannot be read from the checkpoint."
)
data_option = click.option("--data", "data_dir", default="data", type=PATH, show_default=True, help="Data folder.")
tasks_dir_option = click.option(
    "--tasks-dir", type=PATH, help="Folder of your own task definitions. They take precedence over the built-in ones."
)
split_option = click.option("--split", type=NAME, help="Split of the data (default: the task's).")
limit_option = click.option("--limit", type=click.IntRange(min=1), help="Use only the first N images, with all texts.")
prompt_option = click.option(
    "--prompt",
    type=TEXT,
    default="a picture of ",
    show_default=True,
    help="Beginning of every caption, as in the captioner's training. It is removed from the caption.",
)
device_option = click.option("--device", type=NAME, help="cpu, cuda or cuda:N (default: a GPU if there is one).")
precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Precision of the computation.",
)
amp_option = click.option("--amp", is_flag=True, help="The same as --precision bf16.")
batch_tokens_option = click.option(
    "--batch-tokens",
    type=click.IntRange(1, 2**31 - 1),
    help="Tokens in one forward pass (default: depends on the device).",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(0, MOST_WORKERS),
    help="Processes that decode images (default: one per core, at most 16). 0 decodes in the main process.",
)
resume_option = click.option("--resume", is_flag=True, help="Continue an unfinished run without repeating work.")
fresh_option = click.option("--fresh", is_flag=True, help="Start over and delete what an earlier run left.")
on_error_option = click.option(
    "--on-error",
    type=click.Choice(["continue", "stop"]),
    help="What to do when a unit fails (default: stop if CI is set, otherwise continue).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of tables.")

COMPUTING = (device_option, precision_option, amp_option, batch_tokens_option, workers_option)
RUNNING = (resume_option, fresh_option, on_error_option)
TRYING = (ckpt_option, model_option, device_option, precision_option, amp_option, json_option)


def seed_option(meaning: str) -> Callable[[Command], Command]:
    """`--seed`, whose help says what it is the seed of."""
    return click.option("--seed", type=SEED, default=0, show_default=True, help=meaning)


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """The decorators as one, applied so that the help shows them in this order."""

    def apply(command: Command) -> Command:
        return functools.reduce(lambda decorated, decorator: decorator(decorated), reversed(decorators), command)

    return apply


def precision_of(precision: str, amp: bool) -> str:
    """The value of --precision, or bf16 if --amp is given. Raises UsageError if the two contradict each other."""
    if amp and precision not in ("fp32", "bf16"):
        raise UsageError(f"--amp means --precision bf16, but --precision {precision} is given; choose one")
    return "bf16" if amp else precision


def refuse_both(resume: bool, fresh: bool) -> None:
    """Raise UsageError if both --resume and --fresh are given."""
    if resume and fresh:
        raise UsageError("--resume and --fresh: choose one")


def refuse_file(folder: Path, flag: str = "--out") -> None:
    """Raise UsageError if a folder to write to, the value of `flag`, is a file or lies below one."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{flag} {folder}: {place} is not a folder; choose another folder")


def stops_on_error(on_error: str | None) -> bool:
    """The value of --on-error, or its default: stop if CI is set."""
    return (on_error or ("stop" if os.environ.get("CI") else "continue")) == "stop"


def progress_of(ranks: "Ranks") -> "Progress":
    """The progress of a stage on stderr, shown only by rank 0."""
    from blipbench.progress import stage_progress

    return functools.partial(stage_progress, enabled=ranks.is_main)
