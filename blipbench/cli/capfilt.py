"""`blipbench capfilt`: a captioner and a filter improve the texts of web images."""

from pathlib import Path

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.interrupt import joined
from blipbench.cli.options import (
    COMPUTING,
    NAME,
    PATH,
    RUNNING,
    FiniteRange,
    json_option,
    limit_option,
    options,
    precision_of,
    progress_of,
    prompt_option,
    refuse_both,
    refuse_file,
    seed_option,
    stops_on_error,
)
from blipbench.errors import UsageError


@click.command(
    cls=Command,
    epilog=examples(
        "blipbench capfilt --captioner cap.pth --filter itm.pth --data web.json --out boot.json",
        "blipbench capfilt --filter shapes_base --data data/shapes_web_train.json --out boot.json --limit 100",
    ),
)
@options(
    click.option(
        "--captioner",
        metavar="CKPT",
        type=NAME,
        help="Model that writes a caption for each image (default: no captions).",
    ),
    click.option(
        "--captioner-model", type=NAME, help="Sizes of the captioner, if they cannot be read from its checkpoint."
    ),
    click.option(
        "--filter",
        "matcher",
        metavar="CKPT",
        type=NAME,
        help="Model whose ITM head drops texts (default: keep all texts).",
    ),
    click.option("--filter-model", type=NAME, help="Sizes of the filter, if they cannot be read from its checkpoint."),
    click.option("--data", required=True, type=PATH, help='Web texts: a JSON list of {"image", "caption"}.'),
    click.option("--images", type=PATH, help="Folder of the images (default: the folder of --data)."),
    limit_option,
    prompt_option,
    click.option(
        "--top-p",
        type=FiniteRange(0, 1, min_open=True),
        default=0.9,
        show_default=True,
        help="Sample from the likeliest tokens with this total probability.",
    ),
    click.option(
        "--top-k",
        type=click.IntRange(min=1),
        default=50,
        show_default=True,
        help="Sample from at most this many tokens.",
    ),
    click.option(
        "--repetition-penalty",
        type=FiniteRange(0, min_open=True),
        default=1.1,
        show_default=True,
        help="Penalty of tokens that the caption already has.",
    ),
    click.option(
        "--max-length",
        type=click.IntRange(min=1),
        default=20,
        show_default=True,
        help="Longest caption in tokens, prompt included.",
    ),
    click.option(
        "--min-length",
        type=click.IntRange(min=1),
        default=5,
        show_default=True,
        help="Shortest caption in tokens, prompt included.",
    ),
    *COMPUTING,
    seed_option("Seed of the sampling and of the report's examples."),
    click.option("--out", required=True, type=PATH, help="File to write the kept texts to. It must end in .json."),
    *RUNNING,
    click.option(
        "--examples",
        "shown",
        type=click.IntRange(min=0),
        default=48,
        show_default=True,
        help="Images in the report.",
    ),
    json_option,
)
def capfilt(
    captioner: str | None,
    captioner_model: str | None,
    matcher: str | None,
    filter_model: str | None,
    data: Path,
    images: Path | None,
    limit: int | None,
    prompt: str,
    top_p: float,
    top_k: int,
    repetition_penalty: float,
    max_length: int,
    min_length: int,
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
    shown: int,
    as_json: bool,
) -> None:
    """Improve the texts of web images.

    A captioner writes a caption for each image, and a filter drops the texts that do not match.

    With only a captioner, all texts are kept. With only a filter, the web texts are filtered. The command also writes a
    report with examples, OUT.html, and the folder OUT.capfilt with all scores. Under torchrun, the ranks share the
    images.
    """
    if captioner is None and matcher is None:
        raise UsageError("there is nothing to do without --captioner and --filter; give at least one of them")
    refuse_both(resume, fresh)
    refuse_file(out.parent)
    from blipbench.capfilt.page import print_capfilt
    from blipbench.capfilt.run import CapfiltOptions, ModelSource, run_capfilt
    from blipbench.config.models import load_model_config
    from blipbench.inference.search import SearchSettings
    from blipbench.reporting.terminal import result_console

    def source(role: str, checkpoint: str | None, model: str | None) -> ModelSource | None:
        if checkpoint is None and model is not None:
            raise UsageError(f"--{role}-model requires --{role}")
        return None if checkpoint is None else ModelSource(checkpoint, load_model_config(model) if model else None)

    capfilt_options = CapfiltOptions(
        captioner=source("captioner", captioner, captioner_model),
        filter=source("filter", matcher, filter_model),
        data=data,
        images=images,
        out=out,
        prompt=prompt,
        settings=SearchSettings(
            method="nucleus",
            max_length=max_length,
            min_length=min_length,
            repetition_penalty=repetition_penalty,
            top_p=top_p,
            top_k=top_k,
        ),
        limit=limit,
        device=device,
        precision=precision_of(precision, amp),
        batch_tokens=batch_tokens,
        workers=workers,
        seed=seed,
        examples=shown,
        resume=resume,
        fresh=fresh,
        stop_on_error=stops_on_error(on_error),
    )
    with joined() as ranks:
        result = run_capfilt(capfilt_options, ranks, progress_of(ranks))
    if result is not None:
        if as_json:
            click.echo(result.model_dump_json())
        else:
            print_capfilt(result, result_console())
        if result.status != "complete":
            raise SystemExit(1)
