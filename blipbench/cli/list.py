"""`blipbench list`: the tasks."""

import json
from pathlib import Path

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.options import json_option, options, tasks_dir_option


@click.command(name="list", cls=Command, epilog=examples("blipbench list --tasks-dir my_tasks", "blipbench list"))
@options(tasks_dir_option, json_option)
def list_command(tasks_dir: Path | None, as_json: bool) -> None:
    """List the tasks."""
    from blipbench.config.tasks import list_tasks

    specs = list_tasks(tasks_dir)
    if as_json:
        click.echo(json.dumps([{"name": s.name, "protocol": s.protocol, "title": s.title} for s in specs]))
        return
    width = max(len(spec.name) for spec in specs)
    for spec in specs:
        click.echo(f"{spec.name:<{width}}  {spec.title}")
