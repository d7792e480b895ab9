"""A training run's folder and what is written into it, each file whole or not at all.

    runs/train/<name>/
        train.json           the fingerprint: a resume under another configuration is refused
        vocab.txt            where the run has a vocabulary of its own: `blipbench run` wants it beside a checkpoint
        last.safetensors     the newest model, as `blipbench run` takes it: no momentum copies, no queues
        best.safetensors     the best by the main metric of the run's evaluations
        evaluations.json     that metric after each evaluated step
        state.pt             everything else a resume needs: all tensors, AdamW, the step, every rank's RNG
        metrics.jsonl        see `log.py`

Each is written as `files.py` has it: a kill or a full disk leaves what was.
"""

import json
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from blipbench.errors import BlipbenchError, CheckpointError, UsageError
from blipbench.files import write_whole
from blipbench.models.checkpoint import identity
from blipbench.models.config import ModelConfig
from blipbench.models.conversion import write_safetensors
from blipbench.models.sizes import ignored_as

_OURS = ("train.json", "last.safetensors", "best.safetensors", "evaluations.json", "state.pt", "metrics.jsonl")


class TrainingState(NamedTuple):
    """What state.pt holds. `rng` are the ranks' generators: of the CPU and, on a GPU, of its device."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    step: int
    rng: list[list[Tensor]]


class Evaluations(NamedTuple):
    """The run's evaluations so far: the metric that is looked at, and its value after each evaluated step."""

    metric: str | None
    values: dict[int, float]


class TrainFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last.safetensors"
        self.best = path / "best.safetensors"
        self.state = path / "state.pt"
        self.metrics = path / "metrics.jsonl"

    def begin(self, fingerprint: dict[str, Any], *, resume: bool, fresh: bool) -> None:
        """Claim the folder, or check that it holds the same run. Only rank 0 calls this. Raises UsageError."""
        file = self.path / "train.json"
        if file.exists() and not fresh:
            if not resume:
                raise UsageError(
                    f"{self.path} already holds a training run: add --resume to go on with it, --fresh to start over, "
                    "or --out for another folder"
                )
            self._refuse_other(_read_object(file), fingerprint)
        elif not file.exists() and self.path.exists() and any(self.path.iterdir()):
            raise UsageError(f"{self.path} is not empty and was not made by blipbench; choose another --out")
        elif fresh:
            for name in _OURS:
                (self.path / name).unlink(missing_ok=True)
        write_whole(file, lambda temporary: temporary.write_text(json.dumps(fingerprint, indent=1) + "\n"))

    def _refuse_other(self, recorded: dict[str, Any], fingerprint: dict[str, Any]) -> None:
        keys = sorted(recorded.keys() | fingerprint.keys())
        differing = [key for key in keys if recorded.get(key) != fingerprint.get(key)]
        if differing:
            details = "; ".join(f"{key} was {recorded.get(key)!r}, is {fingerprint.get(key)!r}" for key in differing)
            raise UsageError(
                f"{self.path} holds a run under another configuration ({details}): the two cannot be mixed; use --out "
                "for another folder, or --fresh to start over"
            )

    def save_model(self, path: Path, model: nn.Module, config: ModelConfig) -> None:
        """The weights that an evaluation reads, with the model's sizes in the header."""
        named = {name: tensor for name, tensor in model.state_dict().items() if ignored_as(name) is None}
        once = {identity(tensor): tensor.cpu() for tensor in named.values()}  # of a GPU too, tied tensors stay tied
        weights = {name: once[identity(tensor)] for name, tensor in named.items()}
        write_whole(path, lambda temporary: write_safetensors(weights, config, temporary))

    def save_state(self, state: TrainingState) -> None:
        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:  # given the path, torch hides why a write failed
                torch.save(state._asdict(), file)

        write_whole(self.state, write)

    def load_state(self) -> TrainingState | None:
        """None where the run was ended before its first checkpoint. Raises CheckpointError for a damaged file."""
        if not self.state.exists():
            return None
        try:
            content = torch.load(self.state, map_location="cpu", weights_only=True)
            return TrainingState(**content)
        except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError, OSError) as error:
            raise CheckpointError(
                f"{self.state}: cannot be read ({error}); start from {self.last} with --init and --fresh"
            ) from error

    def evaluations(self) -> Evaluations:
        file = self.path / "evaluations.json"
        if not file.exists():
            return Evaluations(None, {})
        content = _read_object(file)
        try:
            values = {int(step): float(value) for step, value in content["values"].items()}
            return Evaluations(content["metric"], values)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise BlipbenchError(f"{file} is damaged ({error!r}); start over with --fresh") from error

    def save_evaluations(self, evaluations: Evaluations) -> None:
        text = json.dumps(evaluations._asdict(), indent=1) + "\n"
        write_whole(self.path / "evaluations.json", lambda temporary: temporary.write_text(text))


def _read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file of ours. Raises BlipbenchError if it is damaged."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BlipbenchError(f"{file} is damaged ({error}); start over with --fresh") from error
    if not isinstance(content, dict):
        raise BlipbenchError(f"{file} is damaged (it is not a JSON object); start over with --fresh")
    return content
