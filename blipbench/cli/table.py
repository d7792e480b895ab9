"""`blipbench table`: several results side by side."""

import json
from pathlib import Path

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.options import NamedPath, json_option, options, tasks_dir_option


@click.command(cls=Command, epilog=examples("blipbench table runs other_runs", "blipbench table runs --plot table.png"))
@click.argument(
    "folders", metavar="RUN...", nargs=-1, required=True, type=NamedPath(path_type=Path, exists=True, file_okay=False)
)
@options(
    tasks_dir_option,
    click.option("--plot", type=NamedPath(path_type=Path, dir_okay=False), help="Also draw the figures as this PNG."),
    json_option,
)
def table(folders: tuple[Path, ...], plot: Path | None, tasks_dir: Path | None, as_json: bool) -> None:
    """Show several runs in one table, with confidence intervals.

    RUN is the folder of a run, or a folder that contains runs. A result that cannot be read is reported on stderr, and
    the others are still shown.
    """
    from blipbench.reporting.summary import Damaged, as_records, figures, find_results, plot_figures, print_figures
    from blipbench.reporting.terminal import result_console

    found = find_results(folders)
    damaged = [one for one in found if isinstance(one, Damaged)]
    lines = figures([one for one in found if not isinstance(one, Damaged)], tasks_dir)
    if as_json:
        click.echo(json.dumps(as_records(lines, damaged)))
    elif lines:
        print_figures(lines, result_console())
    for one in damaged:
        click.echo(f"error: {one.error}", err=True)
    if plot is not None and lines:
        plot_figures(lines, plot)
        click.echo(f"{plot}: figures drawn", err=True)
    if damaged:
        raise SystemExit(1)
