"""`blipbench doctor`: a check of the machine."""

import dataclasses
import json

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.options import json_option


@click.command(cls=Command, epilog=examples("blipbench doctor", "blipbench doctor --json"))
@json_option
def doctor(as_json: bool) -> None:
    """Check that this machine has what the benchmarks need.

    Checks the versions of packages, the GPU, memory, disk space and Java.
    """
    from blipbench import doctor as checks

    found = checks.diagnose()
    click.echo(
        json.dumps([dataclasses.asdict(check) for check in found]) if as_json else "\n".join(checks.report_lines(found))
    )
    raise SystemExit(checks.exit_status(found))
