"""`blipbench caption`, `ask` and `match`: try a checkpoint on a picture, without a benchmark."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from blipbench.cli.options import prompt_option

if TYPE_CHECKING:
    from blipbench.device import Runtime
    from blipbench.models.checkpoint import Checkpoint

Command = TypeVar("Command", bound=Callable[..., Any])

picture_argument = click.argument("picture", metavar="IMG", type=click.Path(path_type=Path))
_MODEL_OPTIONS = (
    click.option(
        "--ckpt",
        required=True,
        help="A checkpoint file, a transformers folder or hub id, or the name of a bundled or official one.",
    ),
    click.option("--device", help="cpu, cuda or cuda:N; by default a GPU if there is one."),
    click.option("--precision", type=click.Choice(["fp32", "tf32", "bf16", "fp16"]), default="fp32", show_default=True),
    click.option("--model", help="Sizes of the model (a name or a YAML file) where the checkpoint cannot tell them."),
    click.option("--json", "as_json", is_flag=True, help="Print one line of JSON."),
)


def model_options(command: Command) -> Command:
    """The options that say which model computes, and where."""
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return command


def _load(ckpt: str, device: str | None, precision: str, model: str | None) -> "tuple[Checkpoint, Runtime]":
    from blipbench.config.models import list_model_configs, load_model_config
    from blipbench.device import make_runtime
    from blipbench.models.checkpoint import load_checkpoint
    from blipbench.progress import CountedProgress

    runtime = make_runtime(device, precision)
    config = load_model_config(model) if model else None
    with CountedProgress("download", "bytes") as progress:
        checkpoint = load_checkpoint(ckpt, config=config, configs=list_model_configs(), progress=progress)
    return checkpoint, runtime


@click.command()
@click.argument("pictures", nargs=-1, required=True, metavar="IMG...", type=click.Path(path_type=Path))
@prompt_option
@model_options
def caption(
    pictures: tuple[Path, ...],
    prompt: str,
    ckpt: str,
    device: str | None,
    precision: str,
    model: str | None,
    as_json: bool,
) -> None:
    """A caption of each picture, by the settings of the COCO benchmark."""
    from blipbench.evaluation.pictures import caption_pictures
    from blipbench.progress import stage_progress

    checkpoint, runtime = _load(ckpt, device, precision, model)
    with stage_progress("caption", "pictures", len(pictures)) as advance:
        captions = caption_pictures(pictures, checkpoint, runtime, prompt, advance)
    found = [{"image": str(picture), "caption": text} for picture, text in zip(pictures, captions, strict=True)]
    if as_json:
        click.echo(json.dumps(found))
        return
    for row in found:
        click.echo(f"{row['image']}: {row['caption']}" if len(found) > 1 else row["caption"])


@click.command()
@picture_argument
@click.argument("question")
@model_options
def ask(
    picture: Path, question: str, ckpt: str, device: str | None, precision: str, model: str | None, as_json: bool
) -> None:
    """The answer to a QUESTION about the picture, in the model's own words."""
    from blipbench.evaluation.pictures import ask_picture
    from blipbench.progress import stage_progress

    checkpoint, runtime = _load(ckpt, device, precision, model)
    with stage_progress("ask", "questions", 1) as advance:
        answer = ask_picture(picture, question, checkpoint, runtime)
        advance(1)
    click.echo(json.dumps({"image": str(picture), "question": question, "answer": answer}) if as_json else answer)


@click.command()
@picture_argument
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@model_options
def match(
    picture: Path,
    texts: tuple[str, ...],
    ckpt: str,
    device: str | None,
    precision: str,
    model: str | None,
    as_json: bool,
) -> None:
    """How well each TEXT fits the picture: the probability of a match, the ITM logit, the ITC similarity."""
    from blipbench.evaluation.pictures import match_texts
    from blipbench.progress import stage_progress

    checkpoint, runtime = _load(ckpt, device, precision, model)
    with stage_progress("match", "texts", len(texts)) as advance:
        matches = match_texts(picture, texts, checkpoint, runtime)
        advance(len(texts))
    if as_json:
        click.echo(json.dumps({"image": str(picture), "matches": [dataclasses.asdict(found) for found in matches]}))
        return
    click.echo("match   ITM logit  ITC cosine  text")
    for found in matches:
        click.echo(f"{found.probability:5.1%}  {found.itm:9.3f}  {found.itc:10.4f}  {found.text}")
