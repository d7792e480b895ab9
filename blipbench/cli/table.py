"""`blipbench table`: results that are there already, side by side."""

import json
from pathlib import Path

import click

from blipbench.cli.options import json_option, tasks_dir_option


@click.command()
@click.argument(
    "folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Also draw the figures into this PNG.")
@tasks_dir_option
@json_option
def table(folders: tuple[Path, ...], plot: Path | None, tasks_dir: Path | None, as_json: bool) -> None:
    """One table of several runs, with intervals; RUN is a run's folder or one that holds runs."""
    from blipbench.reporting.summary import as_records, figures, find_results, plot_figures, print_figures
    from blipbench.reporting.terminal import result_console

    lines = figures(find_results(folders), tasks_dir)
    if as_json:
        click.echo(json.dumps(as_records(lines)))
    else:
        print_figures(lines, result_console())
    if plot is not None:
        plot_figures(lines, plot)
        click.echo(f"{plot}: the same figures as a picture", err=True)
