"""`blipbench data ...`: make the shapes world, say what a task's data consists of, verify that it is there."""

from contextlib import ExitStack
from pathlib import Path

import click

from blipbench.cli.options import tasks_dir_option

data_folder = click.option(
    "--data", "root", default="data", type=click.Path(path_type=Path), show_default=True, help="Data folder."
)


@click.group()
def data() -> None:
    """Make, prepare and verify data."""


@data.group()
def make() -> None:
    """Make data sets from nothing."""


@make.command()
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder to write, new or an earlier shapes set."
)
@click.option("--images", default=200, show_default=True, type=int, help="Images of the test split.")
@click.option("--train-images", type=int, help="Images of the train split; others follow it.  [default: 4 x images]")
@click.option("--seed", default=0, show_default=True, type=int)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1), help="Processes that do it.")
def shapes(out: Path, images: int, train_images: int | None, seed: int, workers: int) -> None:
    """The shapes world: generated scenes for every kind of task, in the official formats of the real data sets."""
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


@data.command()
@click.argument("task")
@data_folder
@tasks_dir_option
def prepare(task: str, root: Path, tasks_dir: Path | None) -> None:
    """Fetch the annotation files of TASK that are free to fetch, and say where the rest comes from."""
    from blipbench.config.tasks import load_task
    from blipbench.data.prepare import DataSource, prepare as prepare_data

    spec = load_task(task, tasks_dir)
    sources = [DataSource(**source.model_dump()) for source in spec.sources]
    with _Downloads() as progress:
        report = prepare_data(spec.name, sources, root, progress)
    click.echo("\n".join(report.lines))
    raise SystemExit(0 if report.ok else 1)


class _Downloads:
    """One progress line after another, a file each."""

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


@data.command()
@click.argument("task")
@data_folder
@click.option("--split", help="Another split than the task's own.")
@click.option("--deep", is_flag=True, help="Decode every image, not only its header.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=0), help="Processes that decode.")
@tasks_dir_option
def verify(task: str, root: Path, split: str | None, deep: bool, workers: int, tasks_dir: Path | None) -> None:
    """Check that TASK's files are all there, well-formed and readable; list everything that is not."""
    from blipbench.config.tasks import load_task
    from blipbench.data.dataset import RetrievalDataset
    from blipbench.data.verify import verify_dataset, verify_retrieval
    from blipbench.progress import CountedProgress
    from blipbench.protocols.recipe import annotation_of
    from blipbench.protocols.registry import PROTOCOLS

    spec = load_task(task, tasks_dir)
    split = split or spec.data.split
    if spec.data.reader != "karpathy":
        dataset = PROTOCOLS[spec.protocol].recipe().read(spec, root, split, None)
        if not isinstance(dataset, RetrievalDataset):
            click.echo(f"{spec.name} ({split}): the annotation is sound; its images are checked only by a run")
            return
        with CountedProgress("verify", "clips" if dataset.is_video else "images") as progress:
            report = verify_dataset(dataset, deep=deep, workers=workers, progress=progress)
        click.echo("\n".join(report.lines()))
        raise SystemExit(0 if report.ok else 1)
    with CountedProgress("verify", "images") as progress:
        report = verify_retrieval(
            root,
            annotation_of(spec, split),
            name=spec.name,
            split=split,
            max_words=spec.data.max_words,
            deep=deep,
            workers=workers,
            progress=progress,
        )
    click.echo("\n".join(report.lines()))
    raise SystemExit(0 if report.ok else 1)
