"""`blipbench data ...`: make the shapes world, get the data of a task, and verify it."""

from contextlib import ExitStack
from pathlib import Path

import click

from blipbench.cli.help import Command, Group, examples
from blipbench.cli.options import (
    MOST_WORKERS,
    PATH,
    data_option,
    options,
    refuse_file,
    seed_option,
    split_option,
    tasks_dir_option,
)

_MOST_IMAGES = 1_000_000  # their names have six digits


@click.group(
    cls=Group,
    epilog=examples("blipbench data prepare retrieval_coco --data DIR", "blipbench data make shapes --out data"),
)
def data() -> None:
    """Make, prepare and verify data."""


@data.group(
    cls=Group,
    epilog=examples("blipbench data make shapes --out data", "blipbench data make shapes --out data --images 20"),
)
def make() -> None:
    """Generate data sets."""


@make.command(
    cls=Command,
    epilog=examples(
        "blipbench data make shapes --out data --images 200 --train-images 32000",
        "blipbench data make shapes --out data --images 20",
    ),
)
@options(
    click.option(
        "--images", default=200, show_default=True, type=click.IntRange(1, _MOST_IMAGES), help="Images to test on."
    ),
    click.option(
        "--train-images",
        type=click.IntRange(0, _MOST_IMAGES),
        help="Images to train on (default: 4 times --images). The other splits follow from this number.",
    ),
    click.option(
        "--workers",
        default=2,
        show_default=True,
        type=click.IntRange(1, MOST_WORKERS),
        help="Processes that draw the images.",
    ),
    seed_option("Seed of the scenes."),
    click.option("--out", required=True, type=PATH, help="Folder to write: a new one, or an earlier shapes world."),
)
def shapes(images: int, train_images: int | None, workers: int, seed: int, out: Path) -> None:
    """Generate the shapes world.

    It has scenes for every kind of task, in the official formats of the real data sets.
    """
    refuse_file(out)
    from blipbench.progress import CountedProgress
    from blipbench.shapes import make_shapes, split_sizes

    total = sum(split_sizes(images, train_images=train_images).values())
    with CountedProgress("shapes", "pictures and clips") as progress:
        summary = make_shapes(
            out,
            images,
            seed,
            progress=lambda done: progress(done, total),
            train_images=train_images,
            workers=workers,
        )
    counts = ", ".join(f"{count} {split}" for split, count in summary.images.items())
    click.echo(f"{out}: {counts} (seed {seed})")


@data.command(
    cls=Command,
    epilog=examples("blipbench data prepare retrieval_coco --data DIR", "blipbench data prepare nocaps --data DIR"),
)
@click.argument("task")
@options(data_option, tasks_dir_option)
def prepare(task: str, data_dir: Path, tasks_dir: Path | None) -> None:
    """Download the annotations of a task.

    Downloads the files that are freely available, and says where to get the rest.
    """
    from blipbench.config.tasks import load_task
    from blipbench.data.prepare import prepare as prepare_data

    refuse_file(data_dir, "--data")
    spec = load_task(task, tasks_dir)
    with _Downloads() as progress:
        report = prepare_data(spec.name, spec.sources, data_dir, progress)
    click.echo("\n".join(report.lines))
    raise SystemExit(0 if report.ok else 1)


class _Downloads:
    """The progress of downloads, one line for each file."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._file: str | None = None

    def __enter__(self) -> "_Downloads":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, file: str, done: int, total: int | None) -> None:
        from blipbench.progress import CountedProgress

        if file != self._file:
            self._stack.close()
            self._file = file
            self._count = self._stack.enter_context(CountedProgress(file, "bytes"))
        self._count(done, total)


@data.command(
    cls=Command,
    epilog=examples(
        "blipbench data verify retrieval_coco --data DIR", "blipbench data verify retrieval_shapes --data data --deep"
    ),
)
@click.argument("task")
@options(
    data_option,
    tasks_dir_option,
    split_option,
    click.option("--deep", is_flag=True, help="Decode every image, not only its header."),
    click.option(
        "--workers",
        default=2,
        show_default=True,
        type=click.IntRange(0, MOST_WORKERS),
        help="Processes that decode images.",
    ),
)
def verify(task: str, data_dir: Path, tasks_dir: Path | None, split: str | None, deep: bool, workers: int) -> None:
    """Check the data of a task.

    Checks that they are complete, well-formed and readable, and lists every problem.
    """
    from blipbench.config.tasks import load_task
    from blipbench.evaluation.verify import verify_task
    from blipbench.progress import CountedProgress

    spec = load_task(task, tasks_dir)
    with CountedProgress("verify", "images") as progress:
        report = verify_task(spec, data_dir, split, deep=deep, workers=workers, progress=progress)
    click.echo("\n".join(report.lines()))
    raise SystemExit(0 if report.ok else 1)
