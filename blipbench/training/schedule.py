"""The learning rate and alpha of every step: pure functions of the step's number, so that a resume needs no state.

Sources: BLIP, section 4.1, and the reference's schedules. `cosine_per_epoch` and `step_decay` are the reference's, and
change the rate once an epoch; its warm-up replaces the rate within the first epoch. `cosine_per_step` is ours, for
models so small that an epoch is seconds.
"""

import dataclasses
import math

from blipbench.training.spec import TrainSpec


@dataclasses.dataclass(frozen=True)
class Plan:
    """The steps of a run: an epoch drops what does not fill the last step of all ranks."""

    steps_per_epoch: int
    total_steps: int

    def position(self, step: int) -> tuple[int, int]:
        """Epoch, and step within it, of step number `step`, from 0."""
        return divmod(step, self.steps_per_epoch)


def learning_rate(spec: TrainSpec, plan: Plan, step: int) -> float:
    """Of optimizer step number `step`, from 0."""
    epoch, within = plan.position(step)
    if spec.schedule == "cosine_per_epoch":
        return _cosine(spec.lr, spec.min_lr, epoch / spec.epochs)
    if spec.schedule == "step_decay":
        if epoch == 0 and spec.warmup_steps:
            return min(spec.lr, spec.warmup_lr + (spec.lr - spec.warmup_lr) * within / spec.warmup_steps)
        return max(spec.min_lr, spec.lr * spec.decay_rate**epoch)
    if step < spec.warmup_steps:
        return spec.warmup_lr + (spec.lr - spec.warmup_lr) * (step + 1) / spec.warmup_steps
    return _cosine(spec.lr, spec.min_lr, (step - spec.warmup_steps) / max(1, plan.total_steps - spec.warmup_steps))


def soft_target_weight(spec: TrainSpec, plan: Plan, step: int) -> float:
    """Alpha, the momentum encoders' share of ITC's targets: linear from 0 over the first `alpha_epochs`."""
    ramp = spec.alpha_epochs * plan.steps_per_epoch
    return spec.alpha * min(1.0, step / ramp) if ramp else spec.alpha


def _cosine(start: float, end: float, share: float) -> float:
    return (start - end) * 0.5 * (1 + math.cos(math.pi * share)) + end
