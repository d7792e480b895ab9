"""One training run, from its spec to its checkpoints: what `blipbench train` calls.

    spec + data + (first weights) -> objective -> steps -> last.safetensors, best.safetensors, state.pt, metrics.jsonl

The number of a step determines its examples, learning rate and alpha. Everything else is in state.pt. On a CPU, a run
that was killed and resumed therefore ends with the same weights, bit for bit.
"""

import contextlib
import dataclasses
import math
import shutil
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from blipbench.device import Fetch, Runtime, make_runtime
from blipbench.download import hash_file
from blipbench.errors import BlipbenchError
from blipbench.evaluation.fingerprint import with_version
from blipbench.evaluation.ranks import Ranks
from blipbench.evaluation.run import workers_per_rank
from blipbench.files import write_whole
from blipbench.models.config import ModelConfig
from blipbench.models.tokenizer import load_tokenizer
from blipbench.models.vit import ImageEncoder
from blipbench.progress import Advance, stage_progress
from blipbench.training.build import build_objective
from blipbench.training.data import Batch, BatchMaker, decode_all, encode_all, load_batches, to_device
from blipbench.training.interrupt import Interruption
from blipbench.training.log import MetricsLog, plot_metrics
from blipbench.training.optim import make_optimizer, set_learning_rate
from blipbench.training.order import epoch_rows, make_plan
from blipbench.training.ranks import part_of
from blipbench.training.records import TrainingSet, read_training_set
from blipbench.training.schedule import Plan, learning_rate, soft_target_weight
from blipbench.training.spec import TrainSpec, resolve_sizes, resolve_vocab
from blipbench.training.state import TrainFolder, TrainingState, why_not_of
from blipbench.training.transforms import example_seed
from blipbench.training.validation import Validation
from blipbench.training.warmstart import Start, warm_start

# Neither the weights nor what they may be compared with depend on these.
_FREE = ("workers", "cache_pixels", "evaluate", "checkpoint_every", "log_every", "gradient_checkpointing")


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """The flags of `blipbench train`; `out` is the folder that holds all training runs."""

    data: Path
    out: Path
    start: Start
    device: str | None = None
    resume: bool = False
    fresh: bool = False


@dataclasses.dataclass(frozen=True)
class TrainSummary:
    """The outcome of a finished run. `value` is the main metric of the best evaluation, or None without evaluations."""

    folder: Path
    checkpoint: Path
    steps: int
    metric: str | None
    value: float | None


@dataclasses.dataclass(frozen=True)
class _Run:
    spec: TrainSpec
    plan: Plan
    config: ModelConfig
    runtime: Runtime
    ranks: Ranks
    folder: TrainFolder
    data: TrainingSet
    maker: BatchMaker
    objective: nn.Module
    model: nn.Module  # the objective, under DDP where there are several ranks
    optimizer: torch.optim.Optimizer
    validation: Validation
    log: MetricsLog
    examples_per_step: int


def train(spec: TrainSpec, options: TrainOptions, ranks: Ranks, interruption: Interruption) -> TrainSummary | None:
    """Train to the end; the summary on rank 0, None on the others.

    After a step in which some rank was interrupted the state is saved and KeyboardInterrupt raised.
    Raises UsageError, DataError and CheckpointError as documented there, and BlipbenchError if the loss is not finite.
    """
    with ranks.together():  # no rank trains before the folder is claimed
        runtime = make_runtime(options.device, spec.precision, local_rank=ranks.local_rank)
        vocab = resolve_vocab(spec, options.data)
        tokenizer = load_tokenizer(vocab)
        config = resolve_sizes(spec, tokenizer.vocab_size)
        data = read_training_set(spec, options.data)
        plan = make_plan(spec, len(data.examples), ranks.world_size)
        folder = TrainFolder(options.out / spec.name)
        validation = Validation(spec, options.data, folder, runtime, ranks)

        torch.manual_seed(spec.seed)  # every rank draws the same first weights
        objective = build_objective(spec, config, tokenizer)
        state = folder.load_state() if options.resume else None
        if state is None:
            warm_start(spec, objective, config, options.start, speak=ranks.is_main)
        if ranks.is_main:
            fingerprint = _fingerprint(spec, config, options.start, data, vocab, ranks.world_size)
            folder.begin(fingerprint, resume=options.resume, fresh=options.fresh)
            if vocab is not None:
                _copy(vocab, folder.path / "vocab.txt")
        if state is not None:
            _load(state, objective, spec, plan, folder, ranks)
        examples = spec.batch_size * spec.accumulate * ranks.world_size
        evaluated = folder.evaluations().values if ranks.is_main else {}
        log = MetricsLog(
            folder.path, spec.log_every, examples, resumed=state, evaluated=evaluated, enabled=ranks.is_main
        )

    objective.to(runtime.device).train()
    optimizer = make_optimizer(spec, objective.parameters())
    if state is not None:  # all but the moments is the spec's
        optimizer.load_state_dict({"state": state.moments, "param_groups": optimizer.state_dict()["param_groups"]})
    workers = workers_per_rank(spec.workers, ranks.world_size)
    maker = BatchMaker(spec, data, tokenizer, _cached(spec, data, objective, workers, runtime, ranks))
    model = _distributed(objective, runtime, ranks)
    run = _Run(
        spec, plan, config, runtime, ranks, folder, data, maker, objective, model, optimizer, validation, log, examples
    )
    if state is None:
        torch.manual_seed(example_seed(spec.seed, -1, ranks.rank))  # dropout and negatives differ by rank
    else:
        _set_rng(state.rng[ranks.rank], runtime)

    _train_from(run, state.step if state else 0, interruption)
    if not ranks.is_main:
        return None
    plot_metrics(folder.metrics, folder.path / "metrics.png", spec.name)
    evaluations = folder.evaluations()
    checkpoint = folder.best if evaluations.values else folder.last
    best = max(evaluations.values.values(), default=None)
    return TrainSummary(folder.path, checkpoint, plan.total_steps, evaluations.metric, best)


def _load(
    state: TrainingState, objective: nn.Module, spec: TrainSpec, plan: Plan, folder: TrainFolder, ranks: Ranks
) -> None:
    """Put the state's tensors into the objective. Raises CheckpointError if the state is of another run."""
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    model = objective.state_dict()
    reason = why_not_of(state, model, trained, ranks=ranks.world_size, total_steps=plan.total_steps)
    if reason is not None:
        raise folder.damaged(reason)
    objective.load_state_dict(state.model)


def _copy(file: Path, to: Path) -> None:
    write_whole(to, lambda temporary: shutil.copyfile(file, temporary))


def _train_from(run: _Run, step: int, interruption: Interruption) -> None:
    plan, each = run.plan, run.examples_per_step
    run.validation.evaluate(plan, step, run.log)  # where a run was ended between its checkpoint and its evaluation
    run.log.restart_clock()
    name, total, already = f"train {run.spec.name}", plan.total_steps * each, step * each
    with stage_progress(name, "examples", total, already, enabled=run.ranks.is_main) as advance:
        while step < plan.total_steps:
            with interruption.deferred():
                step = _train_epoch(run, step, advance, interruption)
            run.validation.evaluate(plan, step, run.log)


def _train_epoch(run: _Run, step: int, advance: Advance, interruption: Interruption) -> int:
    """Do the remaining steps of the epoch. Returns the number of the step after them."""
    spec, plan = run.spec, run.plan
    epoch, within = plan.position(step)
    end = min(plan.total_steps, (epoch + 1) * plan.steps_per_epoch)
    rows = epoch_rows(spec, run.data, epoch, run.ranks.rank, run.ranks.world_size)
    rows = rows[within * spec.accumulate :][: (end - step) * spec.accumulate]
    pin = run.runtime.device.type == "cuda"
    workers = workers_per_rank(spec.workers, run.ranks.world_size)
    with contextlib.closing(_prefetched(load_batches(run.maker, epoch, rows, workers, pin), run.runtime)) as batches:
        while step < end:
            lr = learning_rate(spec, plan, step)
            set_learning_rate(run.optimizer, lr)
            losses = _step(run, batches, rows, step, within, soft_target_weight(spec, plan, step))
            step += 1
            run.log.add(step, epoch, lr, losses)
            advance(run.examples_per_step)
            if run.ranks.any(interruption.asked):
                _save(run, step)
                raise KeyboardInterrupt
            if _checkpoint_due(run, step):
                _save(run, step)
    return step


def _step(
    run: _Run, batches: Iterator[Batch], rows: list[list[int]], step: int, first: int, alpha: float
) -> dict[str, Tensor]:
    """One optimizer step over `accumulate` batches; the mean of each loss."""
    spec = run.spec
    run.optimizer.zero_grad(set_to_none=True)
    means: dict[str, Tensor] = {}
    for part in range(spec.accumulate):
        batch = next(batches)
        last = part == spec.accumulate - 1
        with _without_exchange(run.model, last), _precision(run.runtime):
            losses = run.model(batch, alpha)
        total = torch.stack(list(losses.values())).sum()
        fetched = Fetch(total.detach())  # a GPU goes on with the backward pass meanwhile
        with _without_exchange(run.model, last):
            (total / spec.accumulate).backward()
        if not math.isfinite(fetched.wait()):
            within = run.plan.position(step)[1] - first
            _refuse_non_finite(run, step, losses, rows[within * spec.accumulate + part])
        for name, loss in losses.items():
            share = loss.detach() / spec.accumulate
            means[name] = means[name] + share if name in means else share
    if spec.clip_norm is not None:
        nn.utils.clip_grad_norm_(run.model.parameters(), spec.clip_norm)
    run.optimizer.step()
    return means


def _refuse_non_finite(run: _Run, step: int, losses: dict[str, Tensor], rows: list[int]) -> None:
    found = ", ".join(f"{name} {loss.item():g}" for name, loss in losses.items())
    named = "; ".join(f"{row} ({run.data.describe(row)})" for row in rows[:4])
    more = f" and {len(rows) - 4} more: {', '.join(map(str, rows[4:]))}" if len(rows) > 4 else ""
    kept = f"the last good state is in {run.folder.path}" if run.folder.state.exists() else "no checkpoint was due yet"
    raise BlipbenchError(
        f"{run.spec.name}: step {step + 1}: the loss is not finite ({found}), on examples {named}{more}. "
        f"Nothing was updated; {kept}. Try a lower lr, clip_norm, a warm-up, or precision fp32"
    )


def _checkpoint_due(run: _Run, step: int) -> bool:
    """Whether to save after this step: every `checkpoint_every` steps, or else at the end of an epoch.

    The last step and those before an evaluation are always saved.
    """
    if step == run.plan.total_steps or run.validation.due(run.plan, step):
        return True
    return step % (run.spec.checkpoint_every or run.plan.steps_per_epoch) == 0


def _save(run: _Run, step: int) -> None:
    rng = [torch.get_rng_state()]
    if run.runtime.device.type == "cuda":
        rng.append(torch.cuda.get_rng_state(run.runtime.device))
    everyones = [
        [torch.tensor(generator, dtype=torch.uint8) for generator in of_rank]
        for of_rank in run.ranks.gather_json([generator.tolist() for generator in rng])
    ]
    if run.ranks.is_main:
        run.folder.save_model(run.folder.last, run.objective, run.config)
        losses, loss_steps = run.log.sums()
        run.folder.save_state(
            TrainingState(
                model=run.objective.state_dict(),
                moments=run.optimizer.state_dict()["state"],
                step=step,
                rng=everyones,
                losses=losses,
                loss_steps=loss_steps,
            )
        )


def _set_rng(states: list[Tensor], runtime: Runtime) -> None:
    torch.set_rng_state(states[0])
    if runtime.device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], runtime.device)


def _cached(
    spec: TrainSpec, data: TrainingSet, objective: nn.Module, workers: int, runtime: Runtime, ranks: Ranks
) -> Tensor | None:
    if not spec.cache_pixels:
        return None
    mine = part_of(len(data.paths), ranks.rank)
    with stage_progress("decode", "images", len(mine), enabled=ranks.is_main) as advance:
        pixels = decode_all(data, spec.image_size, workers, ranks, advance)
    if not spec.cache_embeds:
        return pixels
    encoder = objective.get_submodule("visual_encoder")
    assert isinstance(encoder, ImageEncoder)
    with stage_progress("encode", "images", len(mine), enabled=ranks.is_main) as advance, _precision(runtime):
        return encode_all(encoder, pixels, runtime.device, ranks, advance)


def _prefetched(batches: Iterator[Batch], runtime: Runtime) -> Generator[Batch, None, None]:
    for batch in batches:
        yield to_device(batch, runtime.device)


def _distributed(objective: nn.Module, runtime: Runtime, ranks: Ranks) -> nn.Module:
    if ranks.world_size == 1:
        return objective
    devices = [runtime.device] if runtime.device.type == "cuda" else None
    with warnings.catch_warnings():
        # Queues and pointers are equal on all ranks by construction, so buffers need no broadcast. Newer versions of
        # torch have another name for that, which older ones do not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            objective, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def _without_exchange(model: nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Ranks exchange gradients once a step, with its last batch."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else contextlib.nullcontext()


def _precision(runtime: Runtime) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast(runtime.device.type, torch.bfloat16, enabled=runtime.precision == "bf16")


def _fingerprint(
    spec: TrainSpec, config: ModelConfig, start: Start, data: TrainingSet, vocab: Path | None, world_size: int
) -> dict[str, Any]:
    """What must be equal for a run to be resumed, by the name of the --set or of the flag that changes it."""
    stated = {**spec.model_dump(mode="json", exclude=set(_FREE)), "model": config.model_dump(mode="json")}
    settings = {
        **_flat(stated, ""),
        "data_sha256": data.sha256,
        "vocab_sha256": hash_file(vocab) if vocab else None,
        "world_size": world_size,
        **{f"--{name}": value and str(value) for name, value in dataclasses.asdict(start).items()},
    }
    return with_version(settings)


def _flat(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
