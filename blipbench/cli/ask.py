"""`blipbench ask`: a question about a picture."""

import json
from pathlib import Path

import click

from blipbench.cli.checkpoint import load
from blipbench.cli.help import Command, examples
from blipbench.cli.options import TEXT, TRYING, options


@click.command(
    cls=Command,
    epilog=examples(
        'blipbench ask photo.jpg "what is on the table?" --ckpt model_base_vqa_capfilt_large.pth',
        'blipbench ask scene.jpg "what color is the star?" --ckpt shapes_vqa --json',
    ),
)
@click.argument("picture", metavar="IMG", type=click.Path(path_type=Path))
@click.argument("question", type=TEXT)
@options(*TRYING)
def ask(
    picture: Path,
    question: str,
    ckpt: str,
    model: str | None,
    device: str | None,
    precision: str,
    amp: bool,
    as_json: bool,
) -> None:
    """Answer a question about a picture.

    The model generates the answer.
    """
    from blipbench.evaluation.pictures import ask_picture
    from blipbench.progress import stage_progress

    checkpoint, runtime = load(ckpt, model, device, precision, amp)
    with stage_progress("ask", "questions", 1) as advance:
        answer = ask_picture(picture, question, checkpoint, runtime)
        advance(1)
    click.echo(json.dumps({"image": str(picture), "question": question, "answer": answer}) if as_json else answer)
