"""`blipbench capfilt`: better texts for noisy images from the web, by a captioner and a filter."""

from pathlib import Path

import click

from blipbench.cli.interrupt import resumable
from blipbench.cli.options import json_option, progress_of, prompt_option, refuse_both, stops_on_error
from blipbench.errors import UsageError


@click.command()
@click.option(
    "--captioner", metavar="CKPT", help="Writes a synthetic caption of each image; left out, none are written."
)
@click.option("--filter", "matcher", metavar="CKPT", help="Its ITM head drops texts; left out, every text is kept.")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help='The web\'s texts: a list of {"image", "caption"}.'
)
@click.option("--images", type=click.Path(path_type=Path), help="Folder of the images; by default that of --data.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The .json file of the texts that are kept."
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images, with all their texts.")
@prompt_option
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=0.9, show_default=True)
@click.option("--top-k", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--repetition-penalty", type=click.FloatRange(0, min_open=True), default=1.1, show_default=True)
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Of a caption with its prompt, in tokens.",
)
@click.option("--min-length", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sampling, and of the report's examples.")
@click.option("--examples", type=click.IntRange(min=0), default=48, show_default=True, help="Images in the report.")
@click.option("--device", help="cpu, cuda or cuda:N; by default a GPU if there is one.")
@click.option("--precision", type=click.Choice(["fp32", "tf32", "bf16", "fp16"]), default="fp32", show_default=True)
@click.option("--amp", is_flag=True, help="The same as --precision bf16.")
@click.option(
    "--batch-tokens", type=click.IntRange(min=1), help="Tokens in one forward pass; by default what suits the device."
)
@click.option(
    "--workers", type=click.IntRange(min=0), help="Processes that decode images; by default one a core, at most 8."
)
@click.option("--captioner-model", help="Its sizes (a name or a YAML file) where the checkpoint cannot tell them.")
@click.option("--filter-model", help="The same of the filter.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished run; finished work is not done again.")
@click.option("--fresh", is_flag=True, help="Start over, discarding what an earlier run left.")
@click.option(
    "--on-error",
    type=click.Choice(["continue", "stop"]),
    help="At an image that fails; by default stop where CI is set.",
)
@json_option
def capfilt(
    captioner: str | None,
    matcher: str | None,
    data: Path,
    images: Path | None,
    out: Path,
    limit: int | None,
    prompt: str,
    top_p: float,
    top_k: int,
    repetition_penalty: float,
    max_length: int,
    min_length: int,
    seed: int,
    examples: int,
    device: str | None,
    precision: str,
    amp: bool,
    batch_tokens: int | None,
    workers: int | None,
    captioner_model: str | None,
    filter_model: str | None,
    resume: bool,
    fresh: bool,
    on_error: str | None,
    as_json: bool,
) -> None:
    """Bootstrap the texts of web images: caption each one, drop what does not match it.

    With a captioner alone, every text is kept; with a filter alone, the web's texts are filtered. Beside OUT.json a
    page of examples is written, OUT.html, and OUT.capfilt/ with every score. Under torchrun the ranks share the images.
    """
    if captioner is None and matcher is None:
        raise UsageError("give --captioner, --filter or both: without either there is nothing to do")
    refuse_both(resume, fresh)
    from blipbench.capfilt.page import print_capfilt
    from blipbench.capfilt.run import CapfiltOptions, ModelSource, run_capfilt
    from blipbench.config.models import load_model_config
    from blipbench.inference.search import SearchSettings
    from blipbench.reporting.terminal import result_console

    def source(role: str, checkpoint: str | None, model: str | None) -> ModelSource | None:
        if checkpoint is None and model is not None:
            raise UsageError(f"--{role}-model: there is no --{role} that it could be of")
        return None if checkpoint is None else ModelSource(checkpoint, load_model_config(model) if model else None)

    options = CapfiltOptions(
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
        precision="bf16" if amp else precision,
        batch_tokens=batch_tokens,
        workers=workers,
        seed=seed,
        examples=examples,
        resume=resume,
        fresh=fresh,
        stop_on_error=stops_on_error(on_error),
    )
    with resumable() as ranks:
        result = run_capfilt(options, ranks, progress_of(ranks))
    if result is not None:
        if as_json:
            click.echo(result.model_dump_json())
        else:
            print_capfilt(result, result_console())
        if result.status != "complete":
            raise SystemExit(1)
