"""`blipbench score`: the metrics of a finished run, computed again."""

from pathlib import Path

import click

from blipbench.cli.help import Command, examples
from blipbench.cli.options import NamedPath, json_option, options, tasks_dir_option
from blipbench.cli.results import print_one


@click.command(
    cls=Command,
    epilog=examples(
        "blipbench score runs/caption_coco/model_base_caption_capfilt_large --json",
        "blipbench score runs/retrieval_shapes/shapes_base",
    ),
)
@click.argument("run_folder", metavar="RUN", type=NamedPath(path_type=Path, exists=True, file_okay=False))
@options(tasks_dir_option, json_option)
def score(run_folder: Path, tasks_dir: Path | None, as_json: bool) -> None:
    """Compute the metrics of a finished run again.

    They are computed from the samples of the run, without a model.
    RUN is the folder of the run. Its result.json is updated.
    """
    from blipbench.evaluation.run import rescore

    print_one(rescore(run_folder), run_folder, as_json, tasks_dir)
