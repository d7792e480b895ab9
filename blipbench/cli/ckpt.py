"""`blipbench ckpt ...`: inspect checkpoints, convert them to other layouts, and make one with random weights."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blipbench.cli.help import Command, Group, examples
from blipbench.cli.options import NAME, PATH, json_option, model_option, options, seed_option

if TYPE_CHECKING:
    from blipbench.models.checkpoint_files import Layout

_LAYOUT_OF_SUFFIX: "dict[str, Layout]" = {".pth": "official", ".safetensors": "safetensors"}


@click.group(
    cls=Group,
    epilog=examples("blipbench ckpt inspect model_base.pth", "blipbench ckpt random --model tiny --out tiny.pth"),
)
def ckpt() -> None:
    """Inspect, convert and make checkpoints."""


@ckpt.command(
    cls=Command, epilog=examples("blipbench ckpt inspect model_base.pth", "blipbench ckpt inspect shapes_base --json")
)
@click.argument("file", type=NAME)
@options(model_option, json_option)
def inspect(file: str, model: str | None, as_json: bool) -> None:
    """Show what a checkpoint is.

    Prints its kind, sizes, parameters and hash, and which official file it is, if any. FILE is a file, a transformers
    folder, a hub id, or the name of a bundled or official checkpoint.
    """
    from blipbench.config.models import list_model_configs, load_model_config
    from blipbench.models.inspection import inspect_checkpoint
    from blipbench.progress import CountedProgress

    config = load_model_config(model) if model else None
    with CountedProgress("download", "bytes") as progress:
        summary = inspect_checkpoint(file, config=config, configs=list_model_configs(), progress=progress)
    click.echo(json.dumps(dataclasses.asdict(summary), default=str) if as_json else "\n".join(summary.lines()))


@ckpt.command(
    cls=Command,
    epilog=examples(
        "blipbench ckpt convert model_base.pth model_base.safetensors",
        "blipbench ckpt convert shapes_base shapes_folder --layout transformers",
    ),
)
@click.argument("source", metavar="IN", type=NAME)
@click.argument("out", type=PATH)
@options(
    model_option,
    click.option(
        "--layout",
        type=click.Choice(["official", "safetensors", "transformers"]),
        help="Layout of OUT (default: depends on its name).",
    ),
)
def convert(source: str, out: Path, layout: "Layout | None", model: str | None) -> None:
    """Convert the checkpoint IN to another layout.

    By default, the name of OUT decides: a .pth file has the official layout, a .safetensors file has the same tensor
    names, and any other name is a transformers folder.
    """
    from blipbench.config.models import list_model_configs, load_model_config
    from blipbench.models.conversion import convert_checkpoint
    from blipbench.progress import CountedProgress

    config = load_model_config(model) if model else None
    chosen = layout or _LAYOUT_OF_SUFFIX.get(out.suffix, "transformers")
    configs = list_model_configs()
    with CountedProgress("download", "bytes") as progress:
        conversion = convert_checkpoint(source, out, chosen, config=config, configs=configs, progress=progress)
    click.echo("\n".join(conversion.lines()))


@ckpt.command(
    cls=Command,
    epilog=examples(
        "blipbench ckpt slim runs/train/joint_shapes/last.safetensors small.safetensors",
        "blipbench ckpt slim shapes_base shapes_small.safetensors",
    ),
)
@click.argument("source", metavar="IN", type=NAME)
@click.argument("out", type=PATH)
def slim(source: str, out: Path) -> None:
    """Write a smaller copy of a checkpoint.

    OUT has the weights of IN in float16, without momentum copies and queues.
    """
    from blipbench.config.models import list_model_configs
    from blipbench.models.slim import slim_checkpoint

    click.echo("\n".join(slim_checkpoint(source, out, list_model_configs())))


@ckpt.command(
    cls=Command,
    epilog=examples(
        "blipbench ckpt random --model base --seed 1 --out random_base.pth",
        "blipbench ckpt random --model tiny --out tiny.safetensors",
    ),
)
@options(
    click.option("--model", required=True, type=NAME, help="Sizes: a name in configs/models or a YAML file."),
    seed_option("Seed of the weights."),
    click.option("--out", required=True, type=PATH, help="File to write: .pth or .safetensors."),
)
def random(model: str, seed: int, out: Path) -> None:
    """Make a checkpoint with random weights.

    It is a retrieval checkpoint, for trying commands and measuring speed without a download.
    """
    from blipbench.config.models import load_model_config
    from blipbench.models.conversion import save_checkpoint
    from blipbench.models.random_weights import random_state_dict

    config = load_model_config(model)
    save_checkpoint(random_state_dict(config, seed), config, out)
    click.echo(f"{out}: random weights of size {model} (seed {seed}); their recall is at chance level")
