"""`blipbench show`: the definition of one task."""

import json
from pathlib import Path

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.options import json_option, options, tasks_dir_option


@click.command(cls=Command, epilog=examples("blipbench show retrieval_coco", "blipbench show vqa --json"))
@click.argument("task")
@options(tasks_dir_option, json_option)
def show(task: str, tasks_dir: Path | None, as_json: bool) -> None:
    """Show the definition of a task.

    All defaults are filled in.
    """
    import yaml

    from blipbench.config.tasks import load_task

    resolved = load_task(task, tasks_dir).model_dump(mode="json", exclude_defaults=False)
    click.echo(json.dumps(resolved) if as_json else yaml.safe_dump(resolved, sort_keys=False, width=120).rstrip())
