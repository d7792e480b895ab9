"""One CapFilt run, from its flags to its files. `blipbench capfilt` calls it.

OUT.json        [{"image", "caption"}] of the texts that were kept
OUT.html        counts, and examples of kept and dropped texts with their images
OUT.capfilt/    run.json, samples/ and result.json, as for an evaluation (evaluation/journal.py)
"""

import dataclasses
from pathlib import Path
from typing import Any

from blipbench.capfilt.page import choose_examples, render_report
from blipbench.capfilt.result import CapfiltResult, JudgedImage, ModelFile, count
from blipbench.capfilt.stages import MAX_TOKENS, build_stages, judge
from blipbench.config.models import list_model_configs
from blipbench.data.captions import CaptionDataset
from blipbench.data.web import WEB_WORDS, read_web
from blipbench.device import Runtime, make_runtime
from blipbench.errors import UsageError
from blipbench.evaluation.fingerprint import with_version
from blipbench.evaluation.journal import RunFolder
from blipbench.evaluation.loop import Progress, StagesDone, run_stages
from blipbench.evaluation.ranks import Ranks
from blipbench.evaluation.result import DataRecord, describe_environment, now
from blipbench.evaluation.run import workers_per_rank
from blipbench.files import write_json, write_text
from blipbench.inference.blip import BlipRunner
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.search import SearchSettings
from blipbench.models.blip import BlipCaptioner, BlipRetrieval
from blipbench.models.checkpoint import Checkpoint, load_checkpoint, load_weights
from blipbench.models.config import ModelConfig
from blipbench.models.tokenizer import load_tokenizer
from blipbench.progress import CountedProgress


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """A checkpoint, and its sizes if they cannot be read from it."""

    checkpoint: str
    config: ModelConfig | None = None


@dataclasses.dataclass(frozen=True)
class CapfiltOptions:
    """The flags of `blipbench capfilt`. At least one of `captioner` and `filter` is set."""

    captioner: ModelSource | None
    filter: ModelSource | None
    data: Path
    images: Path | None
    out: Path
    prompt: str
    settings: SearchSettings
    limit: int | None = None
    device: str | None = None
    precision: str = "fp32"
    batch_tokens: int | None = None
    workers: int | None = None
    seed: int = 0
    examples: int = 48
    resume: bool = False
    fresh: bool = False
    stop_on_error: bool = False


def run_capfilt(options: CapfiltOptions, ranks: Ranks, progress: Progress) -> CapfiltResult | None:
    """Caption, filter and write the files. Returns the result on rank 0 and None on the others.

    Models and data are checked before any work.
    """
    folder = RunFolder(options.out.with_suffix(".capfilt"))
    with ranks.together():  # no rank journals before the folder is claimed
        if ranks.is_main:
            _refuse_foreign_files(options, folder)
        runtime = make_runtime(options.device, options.precision, options.batch_tokens, ranks.local_rank)
        dataset = read_web(options.data, options.images, name="capfilt", limit=options.limit)
        models = _load_models(options, runtime, ranks)
        workers = workers_per_rank(options.workers, ranks.world_size)
        stages = build_stages(
            dataset,
            models.captioner,
            models.filter,
            options.settings,
            prompt=options.prompt,
            seed=options.seed,
            workers=workers,
        )
        if ranks.is_main:
            folder.begin(_fingerprint(options, dataset, models), resume=options.resume, fresh=options.fresh)
    done = run_stages(stages, folder, ranks, progress, stop_on_error=options.stop_on_error)
    result = None
    if ranks.is_main:
        result = _write(options, dataset, models, done, runtime, ranks, folder, progress)
    ranks.from_main(None)  # the others wait, so that no rank ends while rank 0 may still fail
    return result


def _refuse_foreign_files(options: CapfiltOptions, folder: RunFolder) -> None:
    """Raise UsageError if a file would be overwritten that was not written by an earlier run of this command."""
    if options.out.suffix != ".json":
        raise UsageError(f"--out {options.out}: the output is JSON; use a name that ends in .json")
    for file in (options.out, _report_of(options)):
        if file.exists() and not (folder.path / "run.json").exists():
            raise UsageError(f"--out {options.out}: {file} exists and was not written by capfilt; choose another name")


def _report_of(options: CapfiltOptions) -> Path:
    return options.out.with_suffix(".html")


@dataclasses.dataclass(frozen=True)
class _Models:
    captioner: BlipCaptionRunner | None = None
    captioner_file: ModelFile | None = None
    filter: BlipRunner | None = None
    filter_file: ModelFile | None = None


def _load_models(options: CapfiltOptions, runtime: Runtime, ranks: Ranks) -> _Models:
    """Raises UsageError if a checkpoint does not have the heads that its role requires."""
    models = _Models()
    if options.captioner is not None:
        checkpoint = _fetch(options.captioner, ranks)
        captioner = BlipCaptioner(checkpoint.config)
        load_weights(captioner, checkpoint, "capfilt --captioner")
        runner = BlipCaptionRunner(captioner, load_tokenizer(checkpoint.vocab), runtime)
        models = dataclasses.replace(models, captioner=runner, captioner_file=_file_of(checkpoint))
    if options.filter is not None:
        checkpoint = _fetch(options.filter, ranks)
        matching = BlipRetrieval(checkpoint.config)
        load_weights(matching, checkpoint, "capfilt --filter")
        matcher = BlipRunner(matching, load_tokenizer(checkpoint.vocab), runtime)
        models = dataclasses.replace(models, filter=matcher, filter_file=_file_of(checkpoint))
    return models


def _fetch(source: ModelSource, ranks: Ranks) -> Checkpoint:
    with CountedProgress("download", "bytes", enabled=ranks.is_main) as progress:
        return load_checkpoint(source.checkpoint, config=source.config, configs=list_model_configs(), progress=progress)


def _file_of(checkpoint: Checkpoint) -> ModelFile:
    return ModelFile(
        file=checkpoint.path.name,
        sha256=checkpoint.sha256,
        size=checkpoint.config.name,
        image_size=checkpoint.config.vision.image_size,
    )


def _settings(options: CapfiltOptions) -> dict[str, Any]:
    """The settings of the captioner's sampling and of the filter's texts, for the models that were used."""
    sampling = {
        "prompt": options.prompt,
        "top_p": options.settings.top_p,
        "top_k": options.settings.top_k,
        "repetition_penalty": options.settings.repetition_penalty,
        "max_length": options.settings.max_length,
        "min_length": options.settings.min_length,
    }
    reading = {"max_words": WEB_WORDS, "max_tokens": MAX_TOKENS}
    return {**(sampling if options.captioner else {}), **(reading if options.filter else {})}


def _fingerprint(options: CapfiltOptions, dataset: CaptionDataset, models: _Models) -> dict[str, Any]:
    """What must be equal so that the samples of two runs may be combined."""
    settings = {
        "captioner_sha256": models.captioner_file and models.captioner_file.sha256,
        "filter_sha256": models.filter_file and models.filter_file.sha256,
        "settings": _settings(options),
        "annotation_sha256": dataset.annotation_sha256,
        "limit": options.limit,
        "precision": options.precision,
        "seed": options.seed,
    }
    return with_version(settings)


def _write(
    options: CapfiltOptions,
    dataset: CaptionDataset,
    models: _Models,
    done: StagesDone,
    runtime: Runtime,
    ranks: Ranks,
    folder: RunFolder,
    progress: Progress,
) -> CapfiltResult:
    """Write the texts and the report, then result.json. If result.json exists, everything was written."""
    images = judge(dataset, done.samples)
    report = _report_of(options)
    result = CapfiltResult(
        status="incomplete" if done.failures else "complete",
        created=now(),
        out=str(options.out),
        report=str(report),
        counts=count(images, len(done.failures)),
        captioner=models.captioner_file,
        filter=models.filter_file,
        settings=_settings(options),
        data=DataRecord(
            annotation=str(dataset.annotation),
            annotation_sha256=dataset.annotation_sha256,
            counts={"images": len(dataset.sources), "texts": sum(map(len, dataset.references))},
            limited_from=dataset.limited_from,
        ),
        failures=done.failures,
        stages=done.stages,
        environment=describe_environment(runtime, ranks.world_size),
        seed=options.seed,
    )
    write_json(options.out, _kept(images))
    examples = choose_examples(images, options.examples, options.seed)
    with progress("report", "examples", len(examples), 0) as advance:
        write_text(report, render_report(result, images, examples, advance))
    write_json(folder.result_file, result.model_dump(mode="json"))
    return result


def _kept(images: list[JudgedImage]) -> list[dict[str, str]]:
    return [{"image": image.name, "caption": text.text} for image in images for text in image.texts if text.kept]
