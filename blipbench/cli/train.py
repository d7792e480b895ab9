"""`blipbench train`: a training run from a configuration file."""

from pathlib import Path

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.interrupt import joined
from blipbench.cli.options import (
    NAME,
    PATH,
    SEED,
    data_option,
    device_option,
    fresh_option,
    options,
    refuse_both,
    refuse_file,
)


@click.command(
    cls=Command,
    epilog=examples(
        "blipbench train retrieval_coco --data DIR --init model_base.pth",
        "blipbench train joint_shapes --data data --init shapes_base --set max_steps=20 --set batch_size=8",
    ),
)
@click.argument("config", metavar="CONFIG")
@options(
    click.option("--init", type=NAME, help="Initial weights: a BLIP checkpoint, given as in `blipbench run --ckpt`."),
    click.option("--bert", type=PATH, help="Initial weights of the text encoder: a transformers BERT folder."),
    click.option("--vit", type=PATH, help="Initial weights of the image encoder: a timm ViT or a BLIP checkpoint."),
    data_option,
    click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a key of CONFIG, e.g. lr=1e-4."),
    device_option,
    click.option("--seed", type=SEED, help="The same as --set seed=N."),
    click.option("--out", default="runs/train", type=PATH, show_default=True, help="Folder of all training runs."),
    click.option("--resume", is_flag=True, help="Continue the run in the folder from its last checkpoint."),
    fresh_option,
)
def train(
    config: str,
    changes: tuple[str, ...],
    data_dir: Path,
    out: Path,
    init: str | None,
    bert: Path | None,
    vit: Path | None,
    resume: bool,
    fresh: bool,
    device: str | None,
    seed: int | None,
) -> None:
    """Train a model.

    CONFIG is the name of a configuration in configs/train, or the path of a YAML file. Under torchrun, the ranks train
    together.
    """
    import torch

    from blipbench.training.interrupt import Interruption
    from blipbench.training.spec import load_train_spec
    from blipbench.training.trainer import TrainOptions, train as train_model
    from blipbench.training.warmstart import Start

    refuse_both(resume, fresh)
    refuse_file(out)
    spec = load_train_spec(config, [*changes, *([f"seed={seed}"] if seed is not None else [])])
    train_options = TrainOptions(data_dir, out, Start(init, bert, vit), device, resume, fresh)
    on_gpus = torch.cuda.is_available() and not str(device).startswith("cpu")
    with joined(on_gpus) as ranks, Interruption() as interruption:
        summary = train_model(spec, train_options, ranks, interruption)
    if summary is not None:
        best = "" if summary.value is None else f"; best {summary.metric} {summary.value:.2f}"
        click.echo(f"{summary.checkpoint}: {spec.name} after {summary.steps} steps{best} (log: {summary.folder})")
