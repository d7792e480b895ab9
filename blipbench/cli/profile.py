"""`blipbench profile`: how long the parts of the model take, and how far they are from what the device can do."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.options import (
    NAME,
    PATH,
    FiniteRange,
    NamedPath,
    batch_tokens_option,
    device_option,
    json_option,
    options,
    refuse_file,
)
from blipbench.errors import UsageError

if TYPE_CHECKING:
    from blipbench.models.checkpoint import Checkpoint
    from blipbench.models.config import ModelConfig
    from blipbench.profiling.record import Profile
    from blipbench.profiling.spec import ProfileSpec

FILE = NamedPath(path_type=Path, dir_okay=False)


class List(click.ParamType[list[Any]]):
    """Values with commas between them."""

    name = "list"

    def __init__(self, kind: type = str, choices: tuple[str, ...] = ()) -> None:
        self.kind, self.choices = kind, choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, list):
            return value
        found = []
        for item in value.split(","):
            try:
                found.append(self.kind(item.strip()))
            except ValueError:
                self.fail(f"{item.strip()!r} is not a whole number", param, ctx)
            if self.choices and found[-1] not in self.choices:
                self.fail(f"{found[-1]!r} is not one of {', '.join(self.choices)}", param, ctx)
            if self.kind is int and found[-1] < 1:
                self.fail(f"{found[-1]} is not in the range x>=1", param, ctx)
        return list(dict.fromkeys(found))


@click.command(
    cls=Command,
    epilog=examples(
        "blipbench profile --amp",
        "blipbench profile --model tiny --part vit,itm --batch 1,4 --seconds 2 --plot roofline.png",
    ),
)
@click.argument("name", metavar="[NAME]", default="quick", type=NAME)
@options(
    click.option(
        "--part", "parts", type=List(), help="Parts to time, with commas between them (default: those of NAME)."
    ),
    click.option(
        "--way",
        "ways",
        type=List(choices=("fast", "plain", "transformers")),
        help="fast: blipbench's own path (default). plain: the padded model. transformers: its BLIP classes.",
    ),
    click.option("--ckpt", type=NAME, help="Weights: given as in `blipbench run` (default: random weights)."),
    click.option("--model", type=NAME, help="Sizes of the model: a name or a YAML file (default: base)."),
    click.option("--image-size", type=click.IntRange(1, 4096), help="Pixels (default: the model's)."),
    click.option(
        "--batch", type=List(int), help="Images per call, with commas between them (default: 1 on a CPU, 4 on a GPU)."
    ),
    click.option("--tokens", type=FiniteRange(3, 128), help="Mean length of a text (default: 12.5, as in COCO)."),
    click.option(
        "--texts-per-image",
        type=click.IntRange(1, 100_000),
        help="Texts that are matched with each image (default: 64 on a CPU; 1,400 on a GPU, as for COCO).",
    ),
    device_option,
    click.option(
        "--precision",
        type=List(choices=("fp32", "tf32", "bf16", "fp16")),
        help="Precisions, with commas between them (default: fp32).",
    ),
    click.option("--amp", is_flag=True, help="The same as --precision fp32,bf16."),
    batch_tokens_option,
    click.option("--seconds", type=FiniteRange(0, 86_400), help="Time of the rounds (default: 40)."),
    click.option("--compile", "compiled", is_flag=True, help="Also time each part after torch.compile."),
    click.option(
        "--attention",
        type=List(choices=("flash", "efficient", "math", "cudnn")),
        help="Kernels of torch's attention to force, with commas between them. Requires a GPU.",
    ),
    click.option("--kernels", is_flag=True, help="Also show which kernels (on a CPU: operators) take the time."),
    click.option("--plot", type=FILE, help="Draw a roofline as this PNG, and other pictures beside it."),
    click.option("--trace", type=FILE, help="Write a timeline for Perfetto or chrome://tracing."),
    click.option("--pytest-benchmark", type=FILE, help="Also write the timings in the format of pytest-benchmark."),
    click.option("--out", default="runs/profile", type=PATH, show_default=True, help="Folder of all profiles."),
    json_option,
)
def profile(
    name: str,
    parts: list[str] | None,
    ways: list[str] | None,
    ckpt: str | None,
    model: str | None,
    image_size: int | None,
    batch: list[int] | None,
    tokens: float | None,
    texts_per_image: int | None,
    device: str | None,
    precision: list[str] | None,
    amp: bool,
    batch_tokens: int | None,
    seconds: float | None,
    compiled: bool,
    attention: list[str] | None,
    kernels: bool,
    plot: Path | None,
    trace: Path | None,
    pytest_benchmark: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Time the parts of the model and compare them with what this device can do.

    NAME is a set of parts in configs/profile (quick, coco, kernels, training) or the path of a YAML file. All parts are
    timed in turn, round after round. The result is saved in OUT/NAME/profile.json.
    """
    from blipbench.profiling.record import write_profile
    from blipbench.profiling.spec import load_spec, spec_name

    refuse_file(out)
    if amp and precision is not None:
        raise UsageError("--amp means --precision fp32,bf16, but --precision is given too; choose one")
    changes = {
        "parts": parts,
        "ways": ways,
        "image_size": image_size,
        "batch": batch,
        "tokens": tokens,
        "texts_per_image": texts_per_image,
        "precision": ["fp32", "bf16"] if amp else precision,
        "seconds": seconds,
        "compiled": compiled or None,
        "attention": attention,
        "kernels": kernels or None,
    }
    spec = load_spec(name).model_copy(update={key: value for key, value in changes.items() if value is not None})
    done = _profile(spec, spec_name(name), ckpt, model, device, batch_tokens, trace)
    folder = out / done.name
    write_profile(folder / "profile.json", done)
    _print(done, as_json)
    _export(done, plot, pytest_benchmark)
    click.echo(f"{folder / 'profile.json'}: profile saved", err=True)


def _profile(
    spec: "ProfileSpec",
    name: str,
    ckpt: str | None,
    model: str | None,
    device: str | None,
    batch_tokens: int | None,
    trace: Path | None,
) -> "Profile":
    from blipbench.device import make_runtime
    from blipbench.profiling.kernels import write_trace
    from blipbench.profiling.models import Models
    from blipbench.profiling.parts import find_part
    from blipbench.profiling.record import ModelSource
    from blipbench.profiling.run import ProfileSettings, run_profile
    from blipbench.progress import stage_progress

    for part in spec.parts:
        find_part(part)
    runtimes = [make_runtime(device, precision, batch_tokens) for precision in spec.precision]
    on_gpu = runtimes[0].device.type == "cuda"
    if spec.attention and not on_gpu:
        raise UsageError("--attention chooses between kernels of a GPU, and this run is on a CPU; leave it out")
    config, checkpoint = _model(ckpt, model)
    settings = ProfileSettings(
        name=name,
        parts=spec.parts,
        ways=spec.ways,
        batches=spec.batch or [4 if on_gpu else 1],
        image_size=spec.image_size or config.vision.image_size,
        tokens=spec.tokens,
        texts_per_image=spec.texts_per_image or (1400 if on_gpu else 64),
        seconds=spec.seconds,
        attentions=spec.attention,
        compiled=spec.compiled,
        kernels=spec.kernels,
    )
    if settings.image_size % config.vision.patch_size:
        raise UsageError(
            f"--image-size {settings.image_size}: it must be a multiple of the patch size, {config.vision.patch_size}"
        )
    source = ModelSource(
        name=ckpt or f"{config.name}, random weights", sha256=checkpoint.sha256 if checkpoint else None
    )
    models = Models(config, checkpoint, settings.image_size)
    done, calls = run_profile(settings, models, runtimes, source, stage_progress)
    if trace is not None:
        write_trace(calls, runtimes[0].device, trace)
        click.echo(f"{trace}: timeline written", err=True)
    return done


def _model(ckpt: str | None, model: str | None) -> "tuple[ModelConfig, Checkpoint | None]":
    from blipbench.config.models import list_model_configs, load_model_config
    from blipbench.models.checkpoint import load_checkpoint
    from blipbench.progress import CountedProgress

    config = load_model_config(model) if model else None
    if ckpt is None:
        return config or load_model_config("base"), None
    with CountedProgress("download", "bytes") as progress:
        checkpoint = load_checkpoint(ckpt, config=config, configs=list_model_configs(), progress=progress)
    return checkpoint.config, checkpoint


def _print(done: "Profile", as_json: bool) -> None:
    from blipbench.profiling.table import print_profile
    from blipbench.reporting.terminal import result_console

    if as_json:
        click.echo(done.model_dump_json())
    else:
        print_profile(done, result_console())


def _export(done: "Profile", plot: Path | None, pytest_benchmark: Path | None) -> None:
    if plot is not None:
        _draw(done, plot)
    if pytest_benchmark is not None:
        from blipbench.profiling.pytest_benchmark import write_pytest_benchmark

        write_pytest_benchmark(done, pytest_benchmark)
        click.echo(f"{pytest_benchmark}: timings written", err=True)


def _draw(done: "Profile", plot: Path) -> None:
    """The roofline, and beside it the other pictures for which there is something to show."""
    from blipbench.profiling.plots import plot_batches, plot_kernels, plot_roofline

    plot_roofline(done, plot)
    click.echo(f"{plot}: roofline drawn", err=True)
    beside = {}
    if len({part.batch for part in done.parts}) > 1:
        beside["batches"] = plot_batches
    if any(part.kernels for part in done.parts):
        beside["kernels"] = plot_kernels
    for what, draw in beside.items():
        file = plot.with_name(f"{plot.stem}_{what}{plot.suffix}")
        draw(done, file)
        click.echo(f"{file}: {what} drawn", err=True)
