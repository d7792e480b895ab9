"""`blipbench table`: several results side by side."""

import json
from pathlib import Path

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.options import NamedPath, json_option, options, tasks_dir_option


@click.command(cls=Command, epilog=examples("blipbench table runs", "blipbench table runs other_runs --plot table.png"))
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

    RUN is the folder of a run, or a folder that contains runs.
    """
    from blipbench.reporting.summary import as_records, figures, find_results, plot_figures, print_figures
    from blipbench.reporting.terminal import result_console

    lines = figures(find_results(folders), tasks_dir)
    if as_json:
        click.echo(json.dumps(as_records(lines)))
    else:
        print_figures(lines, result_console())
    if plot is not None:
        plot_figures(lines, plot)
        click.echo(f"{plot}: figures drawn", err=True)
