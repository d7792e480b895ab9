"""`blipbench doctor`: a check of the machine and, with --verify, of what it computes."""

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.options import device_option, json_option, options, precision_option
from blipbench.errors import UsageError

if TYPE_CHECKING:
    from blipbench.verification.finding import Finding


@click.command(cls=Command, epilog=examples("blipbench doctor --verify --precision bf16", "blipbench doctor --verify"))
@click.option("--verify", is_flag=True, help="Compare what this machine computes with the reference's outputs.")
@options(device_option, precision_option, json_option)
@click.pass_context
def doctor(context: click.Context, verify: bool, device: str | None, precision: str, as_json: bool) -> None:
    """Check that this machine has what the benchmarks need.

    Checks the versions of packages, the GPU, memory, disk space and Java. With --verify, tiny models also compute
    scores, captions and answers here, on the given device and in the given precision. Each deviation from the
    reference implementation has a bound.
    """
    for flag in ("device", "precision"):
        if not verify and context.get_parameter_source(flag) is not click.core.ParameterSource.DEFAULT:
            raise UsageError(f"--{flag} says how to verify; add --verify, or leave --{flag} out")
    from blipbench import doctor as checks

    findings = verified(device, precision) if verify else []
    found = [*checks.diagnose(), *findings]
    click.echo(
        json.dumps([dataclasses.asdict(check) for check in found]) if as_json else "\n".join(checks.report_lines(found))
    )
    raise SystemExit(checks.exit_status(found))


def verified(device: str | None, precision: str) -> "list[Finding]":
    from blipbench.device import make_runtime
    from blipbench.progress import CountedProgress
    from blipbench.verification import goldens
    from blipbench.verification.verify import verify

    runtime = make_runtime(device, precision)
    with CountedProgress("verify", "checks") as progress:
        return verify(runtime, goldens.Goldens(goldens.FOLDER), progress)
