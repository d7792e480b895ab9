"""Writes a checkpoint with random weights in the official layout, as a script or from a test.

python tests/helpers/make_checkpoint.py --model base --out FILE.pth --seed 0 [--kind retrieval|itm] [--momentum] [--nan]
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from blipbench.config.models import load_model_config
from blipbench.models.config import ModelConfig
from blipbench.models.random_weights import random_state_dict

_QUEUE_SIZE = 240
_MOMENTUM_OF = ("visual_encoder", "vision_proj", "text_encoder", "text_proj")


def make_checkpoint(
    config: ModelConfig, out: Path, seed: int, *, kind: str = "retrieval", momentum: bool = False, nan: bool = False
) -> Path:
    """Write {'model': state_dict} to `out`; `momentum` adds training's copies and queues, `nan` breaks one weight."""
    state = random_state_dict(config, seed)
    if kind == "itm":  # the reference's matching class: no temperature, queues or momentum copies
        del state["temp"]
    state["text_encoder.embeddings.position_ids"] = torch.arange(config.text.max_positions)[None]
    if momentum:
        state |= _training_state(state, config.embed_dim)
    if nan:
        state["text_encoder.encoder.layer.0.output.dense.weight"][0, 0] = float("nan")
    torch.save({"model": state}, out)
    return out


def _training_state(state: dict[str, Tensor], embed_dim: int) -> dict[str, Tensor]:
    copies: dict[str, Tensor] = {}
    for name, tensor in state.items():
        module, _, rest = name.partition(".")
        if module in _MOMENTUM_OF:
            copies[f"{module}_m.{rest}"] = tensor.clone()
    queue = torch.nn.functional.normalize(torch.ones(embed_dim, _QUEUE_SIZE), dim=0)
    return copies | {
        "image_queue": queue,
        "text_queue": queue.clone(),
        "idx_queue": torch.full((1, _QUEUE_SIZE), -100),
        "ptr_queue": torch.zeros(1, dtype=torch.long),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a checkpoint with random weights in the official layout.")
    parser.add_argument("--model", default="base", help="a name in configs/models, or a YAML file")
    parser.add_argument("--kind", default="retrieval", choices=["retrieval", "itm"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--momentum", action="store_true", help="add momentum copies and queues")
    parser.add_argument("--nan", action="store_true", help="make one weight NaN")
    args = parser.parse_args()
    config = load_model_config(args.model)
    make_checkpoint(config, args.out, args.seed, kind=args.kind, momentum=args.momentum, nan=args.nan)


if __name__ == "__main__":
    main()
