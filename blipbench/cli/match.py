"""`blipbench match`: how well texts match a picture."""

import dataclasses
import json
from pathlib import Path

import click

from blipbench.cli.checkpoint import load
from blipbench.cli.help import Command, examples
from blipbench.cli.options import TEXT, TRYING, options


@click.command(
    cls=Command,
    epilog=examples(
        'blipbench match photo.jpg "a dog on a sofa" "a cat" --ckpt model_base_retrieval_coco.pth',
        'blipbench match scene.jpg "a red circle" --ckpt shapes_base --json',
    ),
)
@click.argument("picture", metavar="IMG", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...", type=TEXT)
@options(*TRYING)
def match(
    picture: Path,
    texts: tuple[str, ...],
    ckpt: str,
    model: str | None,
    device: str | None,
    precision: str,
    amp: bool,
    as_json: bool,
) -> None:
    """Show how well texts match a picture.

    Prints the probability of a match, the ITM logit and the ITC similarity of each TEXT.
    """
    from blipbench.evaluation.pictures import match_texts
    from blipbench.progress import stage_progress

    checkpoint, runtime = load(ckpt, model, device, precision, amp)
    with stage_progress("match", "texts", len(texts)) as advance:
        matches = match_texts(picture, texts, checkpoint, runtime)
        advance(len(texts))
    if as_json:
        click.echo(json.dumps({"image": str(picture), "matches": [dataclasses.asdict(found) for found in matches]}))
        return
    click.echo("match   ITM logit  ITC cosine  text")
    for found in matches:
        click.echo(f"{found.probability:5.1%}  {found.itm:9.3f}  {found.itc:10.4f}  {found.text}")
