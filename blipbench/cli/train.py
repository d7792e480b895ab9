"""`blipbench train`: one training run from a configuration file."""

from pathlib import Path

import click

from blipbench.cli.interrupt import resumable
from blipbench.cli.options import refuse_both


@click.command()
@click.argument("config", metavar="CONFIG")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a key of CONFIG, e.g. lr=1e-4.")
@click.option(
    "--data", "data_dir", default="data", type=click.Path(path_type=Path), show_default=True, help="Data folder."
)
@click.option(
    "--out", default="runs/train", type=click.Path(path_type=Path), show_default=True, help="Folder of all such runs."
)
@click.option("--init", help="First weights: a BLIP checkpoint, as `blipbench run --ckpt` takes it.")
@click.option("--bert", type=click.Path(path_type=Path), help="First weights of the text: a transformers BERT folder.")
@click.option(
    "--vit", type=click.Path(path_type=Path), help="First weights of the image encoder: of timm's ViT or BLIP."
)
@click.option("--resume", is_flag=True, help="Go on with the run in the folder, from its last checkpoint.")
@click.option("--fresh", is_flag=True, help="Start over, discarding what the run's folder holds.")
@click.option("--device", help="cpu, cuda or cuda:N; by default a GPU if there is one.")
@click.option("--seed", type=click.IntRange(min=0), help="The same as --set seed=N.")
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
    """Train a model as CONFIG says: a name in configs/train or a YAML file."""
    import torch

    from blipbench.training.interrupt import Interruption
    from blipbench.training.spec import load_train_spec
    from blipbench.training.trainer import TrainOptions, train as train_model
    from blipbench.training.warmstart import Start

    refuse_both(resume, fresh)
    spec = load_train_spec(config, [*changes, *([f"seed={seed}"] if seed is not None else [])])
    options = TrainOptions(data_dir, out, Start(init, bert, vit), device, resume, fresh)
    on_gpus = torch.cuda.is_available() and not str(device).startswith("cpu")
    with resumable(on_gpus) as ranks, Interruption() as interruption:
        summary = train_model(spec, options, ranks, interruption)
    if summary is not None:
        best = "" if summary.value is None else f"; best {summary.metric} {summary.value:.2f}"
        click.echo(f"{summary.checkpoint}: {spec.name} after {summary.steps} steps{best} (log: {summary.folder})")
