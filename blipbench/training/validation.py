"""Evaluation while training: the same benchmark run as `blipbench run`, on the checkpoint that was just written.

In: a finished epoch. Out: a line of metrics.jsonl, evaluations.json, and best.safetensors where the model is the best
so far by the task's main metric. The run's own random numbers are left as they were.
"""

import shutil
from pathlib import Path
from typing import Any

import torch

from blipbench.config.task import ModelInput, Task
from blipbench.config.tasks import load_task, override_settings
from blipbench.device import Runtime
from blipbench.evaluation.ranks import Ranks
from blipbench.evaluation.run import RunOptions, run_task
from blipbench.files import write_whole
from blipbench.progress import stage_progress
from blipbench.protocols.registry import PROTOCOLS
from blipbench.training.log import MetricsLog
from blipbench.training.schedule import Plan
from blipbench.training.spec import TrainSpec
from blipbench.training.state import Evaluations, TrainFolder


class Validation:
    """The evaluations of one run. There are none if its spec has no `evaluate`.

    The constructor reads the task's data, so that missing data is reported before the training (UsageError, DataError).
    """

    def __init__(self, spec: TrainSpec, data: Path, folder: TrainFolder, runtime: Runtime, ranks: Ranks) -> None:
        self._spec = spec
        self._data = data
        self._folder = folder
        self._runtime = runtime
        self._ranks = ranks
        self._task = _task(spec)
        if self._task is not None and spec.evaluate is not None and ranks.is_main:
            PROTOCOLS[self._task.protocol].recipe().read(self._task, data, spec.evaluate.split, spec.evaluate.limit)

    def due(self, plan: Plan, step: int) -> bool:
        """Whether to evaluate after step number `step`, from 1: every `every` epochs, and at the end of the run."""
        if self._spec.evaluate is None or step == 0:
            return False
        return step == plan.total_steps or step % (plan.steps_per_epoch * self._spec.evaluate.every) == 0

    def evaluate(self, plan: Plan, step: int, log: MetricsLog) -> None:
        """Evaluate the checkpoint of `step` if that is due and not yet done. Every rank takes part."""
        wanted, task = self._spec.evaluate, self._task
        done = self._folder.evaluations().values if self._ranks.is_main else {}
        if wanted is None or task is None or not self.due(plan, step) or self._ranks.from_main(step in done):
            return
        options = RunOptions(
            checkpoint=str(self._folder.last),
            data=self._data,
            out=self._folder.path / "evaluations" / f"step_{step}",
            split=wanted.split,
            limit=wanted.limit,
            device=str(self._runtime.device),
            precision=self._spec.precision,
            workers=self._spec.workers,
            fresh=True,
        )

        def progress(name: str, noun: str, total: int, already: int) -> Any:
            return stage_progress(name, noun, total, already, enabled=self._ranks.is_main)

        devices = [self._runtime.device] if self._runtime.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            result = run_task(task, options, self._ranks, progress)
        if result is not None:
            # NLVR2's metric is named after the split, of which the task's own may be another.
            metric = task.main_metric if task.main_metric in result.metrics else next(iter(result.metrics))
            value = result.metrics[metric].value
            if value >= max(done.values(), default=value):
                write_whole(self._folder.best, lambda temporary: shutil.copyfile(self._folder.last, temporary))
            log.evaluated(step, metric, value)
            self._folder.save_evaluations(Evaluations(metric=metric, values={**done, step: value}))
        log.restart_clock()


def _task(spec: TrainSpec) -> Task | None:
    """The task at the image size that is trained."""
    if spec.evaluate is None:
        return None
    task = override_settings(load_task(spec.evaluate.task), spec.evaluate.settings)
    return task.model_copy(update={"model": ModelInput(image_size=spec.image_size)})
