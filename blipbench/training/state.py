"""The folder of a training run. Each file in it is complete or absent.

    runs/train/<name>/
        train.json           the fingerprint: a resume under another configuration is refused
        vocab.txt            where the run has its own vocabulary: `blipbench run` looks for it beside a checkpoint
        last.safetensors     the newest model, as `blipbench run` takes it: no momentum copies, no queues
        best.safetensors     the best by the main metric of the run's evaluations
        evaluations.json     that metric after each evaluated step
        state.pt             what else a resume needs: all tensors, AdamW, the step, every rank's RNG, losses
        metrics.jsonl        see `log.py`

Files are replaced atomically (files.py): after a kill or on a full disk the previous file is still there. Files are
checked when they are read, and the error for a damaged one says what to do.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from blipbench.errors import CheckpointError, UsageError
from blipbench.evaluation.fingerprint import read_fingerprint, refuse_other
from blipbench.files import write_whole
from blipbench.models.checkpoint import identity
from blipbench.models.config import ModelConfig
from blipbench.models.conversion import write_safetensors
from blipbench.models.sizes import ignored_as

_OURS = ("train.json", "last.safetensors", "best.safetensors", "evaluations.json", "state.pt", "metrics.jsonl")


class TrainingState(BaseModel):
    """What state.pt holds.

    `moments` are AdamW's, by parameter. `rng` are the ranks' generators: of the CPU and, on a GPU, of its device.
    `losses` are summed over the `loss_steps` steps since the last logged one.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True, extra="forbid")
    model: dict[str, Tensor]
    moments: dict[int, dict[str, Tensor]]
    step: Annotated[int, Field(ge=0)]
    rng: list[Annotated[list[Tensor], Field(min_length=1, max_length=2)]]
    losses: dict[str, Tensor]
    loss_steps: Annotated[int, Field(ge=0)]


class Evaluations(BaseModel):
    """The run's evaluations so far: the name of the metric, and its value after each evaluated step."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    metric: str | None = None
    values: dict[int, float] = {}


class TrainFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last.safetensors"
        self.best = path / "best.safetensors"
        self.state = path / "state.pt"
        self.metrics = path / "metrics.jsonl"

    def begin(self, fingerprint: dict[str, Any], *, resume: bool, fresh: bool) -> None:
        """Claim the folder, or check that it holds the same run. Only rank 0 calls this.

        Raises UsageError, and BlipbenchError for a damaged train.json.
        """
        file = self.path / "train.json"
        if file.exists() and not fresh:
            if not resume:
                raise UsageError(
                    f"{self.path} already holds a training run: add --resume to continue it, --fresh to start over, "
                    "or --out for another folder"
                )
            refuse_other(self.path, read_fingerprint(file), fingerprint)
        elif not file.exists() and self.path.exists() and any(self.path.iterdir()):
            raise UsageError(f"{self.path} is not empty and was not made by blipbench; choose another --out")
        elif fresh:
            for name in _OURS:
                (self.path / name).unlink(missing_ok=True)
        write_whole(file, lambda temporary: temporary.write_text(json.dumps(fingerprint, indent=1) + "\n"))

    def save_model(self, path: Path, model: nn.Module, config: ModelConfig) -> None:
        """The weights that an evaluation reads, with the model's sizes in the header."""
        named = {name: tensor for name, tensor in model.state_dict().items() if ignored_as(name) is None}
        once = {identity(tensor): tensor.cpu() for tensor in named.values()}  # of a GPU too, tied tensors stay tied
        weights = {name: once[identity(tensor)] for name, tensor in named.items()}
        write_whole(path, lambda temporary: write_safetensors(weights, config, temporary))

    def save_state(self, state: TrainingState) -> None:
        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:  # given the path, torch hides why a write failed
                torch.save(dict(state), file)

        write_whole(self.state, write)

    def load_state(self) -> TrainingState | None:
        """None if the run ended before its first checkpoint. Raises CheckpointError if the file is damaged."""
        if not self.state.exists():
            return None
        try:
            content = torch.load(self.state, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes raise almost anything
            raise self.damaged(str(error) or type(error).__name__) from error
        try:
            return TrainingState.model_validate(content)
        except ValidationError as error:
            raise self.damaged(_first(error)) from error

    def damaged(self, reason: str) -> CheckpointError:
        """The error that says what is wrong with state.pt."""
        start = f"--init {self.last} --fresh" if self.last.exists() else "--fresh"
        return CheckpointError(
            f"{self.state}: is damaged, or not this run's ({reason.splitlines()[0]}); start a new training from the "
            f"last model with {start}, or choose another --out"
        )

    def evaluations(self) -> Evaluations:
        """Raises CheckpointError for a damaged file."""
        file = self.path / "evaluations.json"
        if not file.exists():
            return Evaluations()
        try:
            return Evaluations.model_validate_json(file.read_bytes())
        except (ValidationError, OSError) as error:
            found = _first(error) if isinstance(error, ValidationError) else error.strerror
            raise CheckpointError(
                f"{file}: is damaged ({found}); delete it and add --resume, which evaluates the last checkpoint again, "
                "or use --fresh to start over"
            ) from error

    def save_evaluations(self, evaluations: Evaluations) -> None:
        text = evaluations.model_dump_json(indent=1) + "\n"
        write_whole(self.path / "evaluations.json", lambda temporary: temporary.write_text(text))


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc'])) or 'the content'}: {found['msg']}"


def why_not_of(
    state: TrainingState, model: Mapping[str, Tensor], parameters: Sequence[Tensor], *, ranks: int, total_steps: int
) -> str | None:
    """What does not fit a run with these tensors, whose AdamW has these parameters. None if everything fits."""
    if (found := _misfit("model", state.model, model)) is not None:
        return found
    if state.step > total_steps or len(state.rng) != ranks:
        return f"step {state.step} of {total_steps}, random numbers of {len(state.rng)} ranks of {ranks}"
    if not all(_is_generator(of_rank[0]) for of_rank in state.rng):
        return "rng: not the state of a random number generator"
    if any(total.numel() != 1 for total in state.losses.values()):
        return "losses: not single numbers"
    for number, of_parameter in state.moments.items():
        if not 0 <= number < len(parameters):
            return f"moments: {number} is not one of {len(parameters)} parameters"
        like = parameters[number]
        wanted = {"step": torch.tensor(0.0), "exp_avg": like, "exp_avg_sq": like}
        if (found := _misfit(f"moments.{number}", of_parameter, wanted)) is not None:
            return found
    return None


def _misfit(place: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    if found.keys() != wanted.keys():
        names = sorted(found.keys() ^ wanted.keys())
        return f"{place}: {len(names)} tensors are missing or not expected, first: {names[0]}"
    for name, tensor in wanted.items():
        other = found[name]
        if other.shape != tensor.shape or other.dtype != tensor.dtype:
            return f"{place}.{name}: {list(other.shape)} {other.dtype}, not {list(tensor.shape)} {tensor.dtype}"
    return None


def _is_generator(state: Tensor) -> bool:
    try:
        torch.Generator().set_state(state)
    except (RuntimeError, TypeError):
        return False
    return True
