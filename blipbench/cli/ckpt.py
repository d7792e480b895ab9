"""`blipbench ckpt ...`: what a checkpoint is, other layouts of it, and one with random weights."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from blipbench.models.checkpoint_files import Layout

model_option = click.option(
    "--model", help="Sizes of the model (a name or a YAML file) where the file cannot tell them."
)

_LAYOUT_OF_SUFFIX: "dict[str, Layout]" = {".pth": "official", ".safetensors": "safetensors"}


@click.group()
def ckpt() -> None:
    """Inspect, convert and make checkpoints."""


@ckpt.command()
@click.argument("file")
@model_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def inspect(file: str, model: str | None, as_json: bool) -> None:
    """What FILE, or the folder of a model, is: kind, sizes, parameters, hash, and which official file, if it is one."""
    from blipbench.config.models import list_model_configs, load_model_config
    from blipbench.models.inspection import inspect_checkpoint
    from blipbench.progress import CountedProgress

    config = load_model_config(model) if model else None
    with CountedProgress("download", "bytes") as progress:
        summary = inspect_checkpoint(file, config=config, configs=list_model_configs(), progress=progress)
    click.echo(json.dumps(dataclasses.asdict(summary), default=str) if as_json else "\n".join(summary.lines()))


@ckpt.command()
@click.argument("source", metavar="IN")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--layout", type=click.Choice(["official", "safetensors", "transformers"]), help="By default from OUT's name."
)
@model_option
def convert(source: str, out: Path, layout: "Layout | None", model: str | None) -> None:
    """Write IN in another layout: OUT.pth official, OUT.safetensors the same names, other OUT a transformers folder."""
    from blipbench.config.models import list_model_configs, load_model_config
    from blipbench.models.conversion import convert_checkpoint
    from blipbench.progress import CountedProgress

    config = load_model_config(model) if model else None
    chosen = layout or _LAYOUT_OF_SUFFIX.get(out.suffix, "transformers")
    configs = list_model_configs()
    with CountedProgress("download", "bytes") as progress:
        conversion = convert_checkpoint(source, out, chosen, config=config, configs=configs, progress=progress)
    click.echo("\n".join(conversion.lines()))


@ckpt.command()
@click.argument("source", metavar="IN")
@click.argument("out", type=click.Path(path_type=Path))
def slim(source: str, out: Path) -> None:
    """Write IN to OUT small enough to ship: float16, without momentum copies and queues."""
    from blipbench.config.models import list_model_configs
    from blipbench.models.slim import slim_checkpoint

    click.echo("\n".join(slim_checkpoint(source, out, list_model_configs())))


@ckpt.command()
@click.option("--model", required=True, help="Sizes: a name in configs/models or a YAML file.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write, .pth or .safetensors.")
@click.option("--seed", default=0, show_default=True, type=int)
def random(model: str, out: Path, seed: int) -> None:
    """A retrieval checkpoint with random weights, to try commands and to measure speed without a download."""
    from blipbench.config.models import load_model_config
    from blipbench.models.conversion import save_checkpoint
    from blipbench.models.random_weights import random_state_dict

    config = load_model_config(model)
    save_checkpoint(random_state_dict(config, seed), config, out)
    click.echo(f"{out}: random weights of size {model} (seed {seed}); recall with them is at chance")
