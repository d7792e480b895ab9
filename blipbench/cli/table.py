"""`blipbench table`: several results side by side."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.options import NamedPath, json_option, options, tasks_dir_option
from blipbench.errors import DataError

if TYPE_CHECKING:
    from blipbench.profiling.record import Profile
    from blipbench.reporting.summary import Damaged


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
    """Show several runs in one table, with confidence intervals, and several profiles in another.

    RUN is the folder of a run or a profile, or a folder that contains some. A result that cannot be read is reported on
    stderr, and the others are still shown.
    """
    from blipbench.profiling.table import as_records as profile_records, print_summary
    from blipbench.reporting.summary import Damaged, as_records, figures, find_results, plot_figures, print_figures
    from blipbench.reporting.terminal import result_console

    files = {folder: sorted(folder.rglob("profile.json")) for folder in folders}
    profiles, broken = read_profiles(dict.fromkeys(file for found in files.values() for file in found))
    found = [one for folder in folders for one in find_results([folder], others=bool(files[folder]))]
    damaged = [*(one for one in found if isinstance(one, Damaged)), *broken]
    lines = figures([one for one in found if not isinstance(one, Damaged)], tasks_dir)
    if as_json:
        of_profiles = [record for profile in profiles for record in profile_records(profile)]
        click.echo(json.dumps(as_records(lines, damaged) + of_profiles))
    else:
        if lines:
            print_figures(lines, result_console())
        if profiles:
            print_summary(profiles, result_console())
    for one in damaged:
        click.echo(f"error: {one.error}", err=True)
    if plot is not None and lines:
        plot_figures(lines, plot)
        click.echo(f"{plot}: figures drawn", err=True)
    elif plot is not None:
        click.echo(f"{plot}: not drawn, because there is no result of a run to draw", err=True)
    if damaged:
        raise SystemExit(1)


def read_profiles(files: Iterable[Path]) -> "tuple[list[Profile], list[Damaged]]":
    """The profiles in these files, and those that cannot be read."""
    from blipbench.profiling.record import read_profile
    from blipbench.reporting.summary import Damaged

    profiles, broken = [], []
    for file in files:
        try:
            profiles.append(read_profile(file))
        except DataError as error:
            broken.append(Damaged(file, str(error)))
    return profiles, broken
