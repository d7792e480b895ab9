"""`blipbench caption`: captions of single pictures."""

import json
from pathlib import Path

import click

from blipbench.cli.checkpoint import load
from blipbench.cli.help import Command, examples
from blipbench.cli.options import TRYING, options, prompt_option


@click.command(
    cls=Command,
    epilog=examples(
        "blipbench caption photo.jpg --ckpt model_base_caption_capfilt_large.pth",
        'blipbench caption *.jpg --ckpt shapes_base --prompt "" --json',
    ),
)
@click.argument("pictures", nargs=-1, required=True, metavar="IMG...", type=click.Path(path_type=Path))
@options(prompt_option, *TRYING)
def caption(
    pictures: tuple[Path, ...],
    prompt: str,
    ckpt: str,
    model: str | None,
    device: str | None,
    precision: str,
    amp: bool,
    as_json: bool,
) -> None:
    """Write captions for pictures.

    The settings are those of the COCO benchmark.
    A picture that cannot be read is reported on stderr, and the others are still captioned.
    """
    from blipbench.evaluation.pictures import caption_pictures
    from blipbench.progress import stage_progress

    checkpoint, runtime = load(ckpt, model, device, precision, amp)
    with stage_progress("caption", "pictures", len(pictures)) as advance:
        found = caption_pictures(pictures, checkpoint, runtime, prompt, advance)
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found]))
    for one in found:
        if one.error is not None:
            click.echo(f"error: {one.error}", err=True)
        elif not as_json:
            click.echo(f"{one.picture}: {one.caption}" if len(found) > 1 else one.caption)
    if any(one.error is not None for one in found):
        raise SystemExit(1)
