"""The command line. Each command parses, calls one function, prints: results to stdout, progress and errors to stderr.

Exit codes: 0 done; 1 failed, incomplete or suspect; 2 wrong usage.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blipbench import __version__
from blipbench.cli.capfilt import capfilt
from blipbench.cli.ckpt import ckpt
from blipbench.cli.data import data
from blipbench.cli.interrupt import resumable
from blipbench.cli.options import json_option, progress_of, refuse_both, stops_on_error, tasks_dir_option
from blipbench.cli.pictures import ask, caption, match
from blipbench.cli.table import table
from blipbench.cli.train import train
from blipbench.errors import BlipbenchError, SharedError

if TYPE_CHECKING:
    from blipbench.evaluation.result import Result


class Program(click.Group):
    """Turns the errors that a user can act on into a message and an exit code, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BlipbenchError as error:
            rank = os.environ.get("RANK", "0")
            click.echo(f"error: {error}" if rank == "0" else f"error on rank {rank}: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(
    cls=Program,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "BLIPBENCH",
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)
@click.version_option(__version__)
def main() -> None:
    """Measure BLIP on the standard vision-language benchmarks."""


main.add_command(ckpt)
main.add_command(data)
main.add_command(train)
main.add_command(caption)
main.add_command(ask)
main.add_command(match)
main.add_command(capfilt)
main.add_command(table)


@main.command()
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option(
    "--ckpt",
    help="A checkpoint file, a transformers folder or hub id, or the name of a bundled or official one; or the task's.",
)
@click.option(
    "--data", "data_dir", default="data", type=click.Path(path_type=Path), show_default=True, help="Data folder."
)
@click.option("--split", help="Another split than the task's own.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images, with all their texts.")
@click.option("--device", help="cpu, cuda or cuda:N; by default a GPU if there is one.")
@click.option("--precision", type=click.Choice(["fp32", "tf32", "bf16", "fp16"]), default="fp32", show_default=True)
@click.option("--amp", is_flag=True, help="The same as --precision bf16.")
@click.option(
    "--batch-tokens", type=click.IntRange(min=1), help="Tokens in one forward pass; by default what suits the device."
)
@click.option(
    "--workers", type=click.IntRange(min=0), help="Processes that decode images; by default one a core, at most 8."
)
@click.option("--k-test", type=int, help="Candidates per query that ITM reranks; by default the task's.")
@click.option("--rerank", type=click.Choice(["itm", "none"]), help="none: rank by ITC similarity alone.")
@click.option("--mode", type=click.Choice(["rank", "generate"]), help="Of VQA: rank the answer list, or write answers.")
@click.option(
    "--model",
    help="Sizes (a name or a YAML file) where a BLIP checkpoint cannot tell them; or clip, siglip for one of those.",
)
@click.option("--out", default="runs", type=click.Path(path_type=Path), show_default=True, help="Folder of all runs.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished run; finished work is not done again.")
@click.option("--fresh", is_flag=True, help="Start over, discarding what the run's folder holds.")
@click.option(
    "--on-error", type=click.Choice(["continue", "stop"]), help="At a unit that fails; by default stop where CI is set."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the intervals and the self-check's sample.")
@tasks_dir_option
@json_option
def run(
    tasks: tuple[str, ...],
    ckpt: str | None,
    data_dir: Path,
    split: str | None,
    limit: int | None,
    device: str | None,
    precision: str,
    amp: bool,
    batch_tokens: int | None,
    workers: int | None,
    k_test: int | None,
    rerank: str | None,
    mode: str | None,
    model: str | None,
    out: Path,
    resume: bool,
    fresh: bool,
    on_error: str | None,
    seed: int,
    tasks_dir: Path | None,
    as_json: bool,
) -> None:
    """Run benchmarks on a checkpoint and print their tables."""
    from blipbench.config.models import load_model_config
    from blipbench.config.tasks import load_task, override_settings
    from blipbench.evaluation.run import RunOptions, run_task
    from blipbench.models.clip import FAMILIES

    refuse_both(resume, fresh)
    family = next((known for known in FAMILIES if known == model), None)
    changes = {"k_test": k_test, "rerank": rerank, "mode": mode}
    specs = [override_settings(load_task(name, tasks_dir), changes) for name in tasks]
    options = RunOptions(
        checkpoint=ckpt,
        data=data_dir,
        out=out,
        split=split,
        limit=limit,
        device=device,
        precision="bf16" if amp else precision,
        batch_tokens=batch_tokens,
        workers=workers,
        seed=seed,
        resume=resume,
        fresh=fresh,
        stop_on_error=stops_on_error(on_error),
        model_config=load_model_config(model) if model and family is None else None,
        family=family,
    )
    failed: dict[str, BlipbenchError | None] = {}
    with resumable() as ranks:
        for spec in specs:
            try:
                result = run_task(spec, options, ranks, progress_of(ranks))
            except BlipbenchError as error:
                if len(specs) == 1 or (ranks.world_size > 1 and not isinstance(error, SharedError)):
                    raise
                if ranks.is_main:
                    click.echo(f"error: {spec.name}: {error}", err=True)
                failed[spec.name] = error
                continue
            if result is not None:
                _print_result(result, as_json, tasks_dir)
                if result.status != "complete":
                    failed[spec.name] = None
    if failed:
        if len(specs) > 1 and ranks.is_main:
            click.echo(f"{len(failed)} of {len(specs)} tasks failed or are incomplete: {', '.join(failed)}", err=True)
        raise SystemExit(2 if all(error is not None and error.exit_code == 2 for error in failed.values()) else 1)


def _print_result(result: "Result", as_json: bool, tasks_dir: Path | None) -> None:
    from blipbench.reporting.terminal import print_result

    if as_json:
        click.echo(json.dumps(result.model_dump(mode="json")))
    else:
        print_result(result, tasks_dir)


@main.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path, exists=True, file_okay=False))
@tasks_dir_option
@json_option
def score(run_folder: Path, tasks_dir: Path | None, as_json: bool) -> None:
    """Compute a finished run's metrics again from its samples, without a model."""
    from blipbench.evaluation.run import rescore

    _print_result(rescore(run_folder), as_json, tasks_dir)


@main.command(name="list")
@tasks_dir_option
@json_option
def list_command(tasks_dir: Path | None, as_json: bool) -> None:
    """The tasks there are."""
    from blipbench.config.tasks import list_tasks

    specs = list_tasks(tasks_dir)
    if as_json:
        click.echo(json.dumps([{"name": s.name, "protocol": s.protocol, "title": s.title} for s in specs]))
        return
    width = max(len(spec.name) for spec in specs)
    for spec in specs:
        click.echo(f"{spec.name:<{width}}  {spec.title}")


@main.command()
@click.argument("task")
@tasks_dir_option
@json_option
def show(task: str, tasks_dir: Path | None, as_json: bool) -> None:
    """One task's definition as it is resolved."""
    import yaml

    from blipbench.config.tasks import load_task

    resolved = load_task(task, tasks_dir).model_dump(mode="json", exclude_defaults=False)
    click.echo(json.dumps(resolved) if as_json else yaml.safe_dump(resolved, sort_keys=False, width=120).rstrip())


@main.command()
@json_option
def doctor(as_json: bool) -> None:
    """What of this machine a benchmark would miss: Java, GPU, disk, cores, package versions."""
    from blipbench import doctor as checks

    found = checks.diagnose()
    click.echo(
        json.dumps([dataclasses.asdict(check) for check in found]) if as_json else "\n".join(checks.report_lines(found))
    )
    raise SystemExit(checks.exit_status(found))
