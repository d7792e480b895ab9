"""How `run` and `score` print a result that is saved already."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blipbench.cli.errors import drop_stdout, flush_stdout
from blipbench.errors import BlipbenchError

if TYPE_CHECKING:
    from blipbench.evaluation.result import Result


def print_one(result: "Result", folder: Path, as_json: bool, tasks_dir: Path | None) -> None:
    """`folder` is the run's. Raises BlipbenchError that names it if stdout cannot be written, on a full disk."""
    from blipbench.reporting.terminal import print_result

    try:
        if as_json:
            click.echo(json.dumps(result.model_dump(mode="json")))
        else:
            print_result(result, tasks_dir)
        flush_stdout()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_stdout()
        raise BlipbenchError(
            f"stdout cannot be written ({error.strerror}); the result is saved in {folder / 'result.json'}"
        ) from error
