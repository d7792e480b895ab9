"""Small training runs for the tests: a few drawn images, a model of a few thousand weights, seconds of training."""

import json
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file
from torch import Tensor

from blipbench.shapes import make_shapes
from blipbench.training.spec import TrainSpec, load_train_spec

MODEL: dict[str, Any] = {
    "name": "small",
    "vision": {"width": 32, "depth": 1, "num_heads": 2, "image_size": 32, "patch_size": 16},
    "text": {"width": 32, "depth": 1, "num_heads": 2, "intermediate_size": 64, "max_positions": 64},
    "embed_dim": 16,
}
ANNOTATIONS = {"vqa": "vqa_train.json", "nlvr": "nlvr_train.json", "pretrain": "shapes_cards_train.json"}


def make_world(folder: Path) -> Path:
    """12 training images with 60 captions, 6 test images."""
    make_shapes(folder, images=6, seed=0, train_images=12)
    return folder


def write_config(folder: Path, kind: str = "retrieval", **changes: Any) -> Path:
    """A configuration file called tiny.yaml, of 15 steps an epoch for captions."""
    content: dict[str, Any] = {
        "name": "tiny",
        "kind": kind,
        "model": MODEL,
        "image_size": 32,
        "vocab": "vocab.txt",
        "data": {"annotations": ANNOTATIONS.get(kind, "shapes_karpathy_train.json"), "max_words": 30, "max_tokens": 35},
        "augment": "none",
        "cache_pixels": True,
        "workers": 0,
        "epochs": 2,
        "batch_size": 4,
        "schedule": "cosine_per_step",
        "lr": 1e-3,
        "seed": 0,
        "log_every": 5,
        **({"queue_size": 16} if kind in ("retrieval", "pretrain") else {}),
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def spec(folder: Path, kind: str = "retrieval", **changes: Any) -> TrainSpec:
    return load_train_spec(str(write_config(folder, kind, **changes)))


def train_arguments(config: Path, world: Path, out: Path, *flags: object) -> list[str]:
    return ["train", str(config), "--data", str(world), "--out", str(out), "--device", "cpu", *map(str, flags)]


def weights(out: Path, name: str = "last") -> dict[str, Tensor]:
    return load_file(out / "tiny" / f"{name}.safetensors")


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "tiny" / "metrics.jsonl").read_text().splitlines()]
