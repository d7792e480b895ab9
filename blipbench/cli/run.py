"""`blipbench run`: benchmarks on a checkpoint."""

from pathlib import Path

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.interrupt import joined
from blipbench.cli.options import (
    COMPUTING,
    NAME,
    PATH,
    RUNNING,
    data_option,
    json_option,
    limit_option,
    options,
    precision_of,
    progress_of,
    refuse_both,
    refuse_file,
    seed_option,
    split_option,
    stops_on_error,
    task_ckpt_option,
    tasks_dir_option,
)
from blipbench.cli.results import print_one
from blipbench.errors import BlipbenchError, SharedError


@click.command(
    cls=Command,
    epilog=examples(
        "blipbench run retrieval_coco --ckpt model_base_retrieval_coco.pth --data DIR --amp",
        "blipbench run retrieval_shapes vqa_shapes --data data --limit 20",
    ),
)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@options(
    task_ckpt_option,
    click.option(
        "--model",
        type=NAME,
        help="Sizes of a BLIP model (a name or a YAML file), if they cannot be read from the checkpoint; "
        "or clip or siglip, if the checkpoint is such a model.",
    ),
    data_option,
    tasks_dir_option,
    split_option,
    limit_option,
    click.option("--k-test", type=int, help="Candidates of each query that ITM reranks (default: the task's)."),
    click.option("--rerank", type=click.Choice(["itm", "none"]), help="none: rank by ITC similarity only."),
    click.option(
        "--mode", type=click.Choice(["rank", "generate"]), help="VQA: rank the answer list, or generate the answers."
    ),
    *COMPUTING,
    seed_option("Seed of the bootstrap intervals and of the self-check's sample."),
    click.option("--out", default="runs", type=PATH, show_default=True, help="Folder of all runs."),
    *RUNNING,
    json_option,
)
def run(
    tasks: tuple[str, ...],
    ckpt: str | None,
    model: str | None,
    data_dir: Path,
    tasks_dir: Path | None,
    split: str | None,
    limit: int | None,
    k_test: int | None,
    rerank: str | None,
    mode: str | None,
    device: str | None,
    precision: str,
    amp: bool,
    batch_tokens: int | None,
    workers: int | None,
    seed: int,
    out: Path,
    resume: bool,
    fresh: bool,
    on_error: str | None,
    as_json: bool,
) -> None:
    """Run benchmarks on a checkpoint and print their results.

    TASK is the name of a task (see `blipbench list`) or the path of a YAML file. The results are saved in
    OUT/TASK/MODEL. Under torchrun, the ranks share the work.
    """
    from blipbench.config.models import load_model_config
    from blipbench.config.tasks import load_task, override_settings
    from blipbench.evaluation.run import RunOptions, run_task, slow_precision
    from blipbench.models.clip import FAMILIES

    refuse_both(resume, fresh)
    refuse_file(out)
    family = next((known for known in FAMILIES if known == model), None)
    changes = {"k_test": k_test, "rerank": rerank, "mode": mode}
    specs = [override_settings(load_task(name, tasks_dir), changes) for name in tasks]
    run_options = RunOptions(
        checkpoint=ckpt,
        data=data_dir,
        out=out,
        split=split,
        limit=limit,
        device=device,
        precision=precision_of(precision, amp),
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
    with joined() as ranks:
        with ranks.together():
            if ranks.is_main and (reason := slow_precision(device, run_options.precision)) is not None:
                click.echo(f"warning: {reason}", err=True)
        for spec in specs:
            try:
                result = run_task(spec, run_options, ranks, progress_of(ranks))
            except BlipbenchError as error:
                if len(specs) == 1 or (ranks.world_size > 1 and not isinstance(error, SharedError)):
                    raise
                if ranks.is_main:
                    message = str(error).removeprefix(f"{spec.name}: ")  # many messages begin with it
                    click.echo(f"error: {spec.name}: {message}", err=True)
                failed[spec.name] = error
                continue
            if result is not None:
                print_one(result, out / result.task.name / result.model.name, as_json, tasks_dir)
                if result.status != "complete":
                    failed[spec.name] = None
    if failed:
        if len(specs) > 1 and ranks.is_main:
            click.echo(f"{len(failed)} of {len(specs)} tasks failed or are incomplete: {', '.join(failed)}", err=True)
        raise SystemExit(2 if all(error is not None and error.exit_code == 2 for error in failed.values()) else 1)
