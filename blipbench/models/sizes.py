"""Identifies a state dict: its kind, the sizes that its tensors imply, and its head counts, which tensors do not show.

In: official tensor names and shapes. Out: a kind and a `ModelConfig`. Head counts come from the first that knows them:
the caller's configuration, what the file states, a known model of the same widths and depths, or 64-wide heads.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from blipbench.config.files import lower_first
from blipbench.errors import CheckpointError, UsageError
from blipbench.models.catalog import Kind
from blipbench.models.config import ModelConfig, TextConfig

MODULES = ("visual_encoder", "text_encoder", "vision_proj", "text_proj", "itm_head", "text_decoder", "cls_head")
QUEUES = ("image_queue", "text_queue", "idx_queue", "ptr_queue", "queue_ptr")

KIND_MODULES: dict[Kind, tuple[str, ...]] = {
    "retrieval": ("visual_encoder", "text_encoder", "vision_proj", "text_proj", "itm_head"),
    "itm": ("visual_encoder", "text_encoder", "vision_proj", "text_proj", "itm_head"),
    "pretrain": ("visual_encoder", "text_encoder", "vision_proj", "text_proj", "itm_head", "text_decoder"),
    "caption": ("visual_encoder", "text_decoder"),
    "vqa": ("visual_encoder", "text_encoder", "text_decoder"),
    "nlvr": ("visual_encoder", "text_encoder", "cls_head"),
    "features": ("visual_encoder", "text_encoder"),
}

_HEAD_WIDTH = 64  # of every official model


@dataclass(frozen=True)
class Stated:
    """What a file or a configuration states about a model beyond its tensors. `by` names the source in messages."""

    by: str
    name: str
    vision_heads: int
    text_heads: int
    layer_norm_eps: float
    embed_dim: int


def stated_by(config: ModelConfig, by: str) -> Stated:
    """The part of a configuration that cannot be read off tensors."""
    text = config.text
    return Stated(by, config.name, config.vision.num_heads, text.num_heads, text.layer_norm_eps, config.embed_dim)


def ignored_as(name: str) -> str | None:
    """The kind of a tensor that no evaluation reads: a momentum copy, a queue, position ids. None for a weight."""
    module = name.split(".")[0]
    if module.endswith("_m"):
        return "momentum copies"
    if module in QUEUES:
        return "queues"
    return "position ids" if name.endswith(".position_ids") else None


def modules_in(names: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The encoders, decoder and heads that have weights."""
    found = {name.split(".")[0] for name in names}
    return tuple(module for module in MODULES if module in found)


def kind_of(path: Path, tensors: Mapping[str, Tensor]) -> Kind:
    """What the checkpoint was trained for, from its modules. Raises CheckpointError if it is not a BLIP."""
    modules = set(modules_in(tensors))
    if "visual_encoder" in modules:
        if {"text_encoder", "cls_head"} <= modules:
            return "nlvr"
        if {"text_encoder", "text_decoder"} <= modules:
            return "pretrain" if "itm_head" in modules else "vqa"
        if "text_decoder" in modules:
            return "caption"
        if {"text_encoder", "vision_proj", "text_proj", "itm_head"} <= modules:
            return "retrieval" if "temp" in tensors else "itm"
        if "text_encoder" in modules:
            return "features"
    found = ", ".join(sorted({name.split(".")[0] for name in tensors})[:8]) or "nothing"
    raise CheckpointError(
        f"{path}: not a BLIP checkpoint; it should hold visual_encoder and text_encoder, found {found}"
    )


def shape_of(path: Path, tensors: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor with elements and `dimensions` dimensions. Raises CheckpointError for any other."""
    if name not in tensors or tensors[name].ndim != dimensions:
        found = f"shape {list(tensors[name].shape)}" if name in tensors else "no such tensor"
        raise CheckpointError(
            f"{path}: {name}: {found}, expected {dimensions} dimensions; the file is damaged or not BLIP's"
        )
    if 0 in tensors[name].shape:
        raise CheckpointError(f"{path}: {name}: shape {list(tensors[name].shape)} has no elements; it is damaged")
    return tuple(tensors[name].shape)


def grid_of(path: Path, tensors: Mapping[str, Tensor], name: str) -> int:
    """Patches along one side of the image, by the position embedding `name`. Raises CheckpointError if not square."""
    patches = shape_of(path, tensors, name, 3)[1] - 1  # the class token's position is no patch
    grid = math.isqrt(patches)
    if grid == 0 or grid * grid != patches:
        raise CheckpointError(f"{path}: {name}: {patches} patches do not form a square grid")
    return grid


def read_sizes(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The sizes that the tensors imply, by dotted field of `ModelConfig`; `embed_dim` only if a projection has it."""

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        return shape_of(path, tensors, name, dimensions)

    def depth(prefix: str) -> int:
        return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})

    text = "text_encoder." if any(name.startswith("text_encoder.") for name in tensors) else "text_decoder.bert."
    width, _, patch, _ = shape("visual_encoder.patch_embed.proj.weight", 4)
    grid = grid_of(path, tensors, "visual_encoder.pos_embed")
    vocab, text_width = shape(f"{text}embeddings.word_embeddings.weight", 2)
    sizes = {
        "vision.width": width,
        "vision.depth": depth("visual_encoder.blocks."),
        "vision.image_size": grid * patch,
        "vision.patch_size": patch,
        "text.width": text_width,
        "text.depth": depth(f"{text}encoder.layer."),
        "text.intermediate_size": shape(f"{text}encoder.layer.0.intermediate.dense.weight", 2)[0],
        "text.vocab_size": vocab,
        "text.max_positions": shape(f"{text}embeddings.position_embeddings.weight", 2)[0],
    }
    if "vision_proj.weight" in tensors:
        sizes["embed_dim"] = shape("vision_proj.weight", 2)[0]
    return sizes


def resolve_config(
    path: Path,
    sizes: Mapping[str, int],
    config: ModelConfig | None,
    stated: Stated | None,
    known: Sequence[ModelConfig],
) -> ModelConfig:
    """The whole configuration of a checkpoint of these sizes (see the module's text for where head counts come from).

    `config.vision.image_size` is not compared: position embeddings are resized. Raises UsageError where another field
    of `config` is not the file's, CheckpointError where nothing tells the head counts.
    """
    if config is not None:
        _require_agreement(path, sizes, config)
        unread = stated_by(config, "--model")
    elif stated is not None:
        unread = stated
    elif (alike := next((other for other in known if _same_shape(sizes, other)), None)) is not None:
        unread = stated_by(alike, f"configs/models/{alike.name}.yaml")
    else:
        unread = _official_heads(path, sizes)
    for part, heads in (("vision", unread.vision_heads), ("text", unread.text_heads)):
        if sizes[f"{part}.width"] % heads:
            raise CheckpointError(
                f"{path}: {part}.num_heads: {unread.by} says {heads}, which does not divide the width "
                f"{sizes[f'{part}.width']}; pass --model FILE.yaml with the model's sizes"
            )
    vision = {field.removeprefix("vision."): size for field, size in sizes.items() if field.startswith("vision.")}
    text = {field.removeprefix("text."): size for field, size in sizes.items() if field.startswith("text.")}
    content = {
        "name": unread.name,
        "vision": {"num_heads": unread.vision_heads, **vision},
        "text": {"num_heads": unread.text_heads, "layer_norm_eps": unread.layer_norm_eps, **text},
        "embed_dim": sizes.get("embed_dim", unread.embed_dim),
    }
    try:
        return ModelConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise CheckpointError(
            f"{path}: {field}: {first['input']!r} in the file: {lower_first(first['msg'])}"
        ) from error


def _require_agreement(path: Path, sizes: Mapping[str, int], config: ModelConfig) -> None:
    flat = _flat(config)
    for field, size in sizes.items():
        if field != "vision.image_size" and flat[field] != size:
            raise UsageError(
                f"{path}: {field} is {size} in the file, but {flat[field]} in the model configuration {config.name!r}"
            )


def _flat(config: ModelConfig) -> dict[str, int]:
    vision = {f"vision.{field}": size for field, size in config.vision.model_dump().items()}
    text = {f"text.{field}": size for field, size in config.text.model_dump().items()}
    return {**vision, **text, "embed_dim": config.embed_dim}


def _same_shape(sizes: Mapping[str, int], config: ModelConfig) -> bool:
    flat = _flat(config)
    return all(sizes[f] == flat[f] for f in ("vision.width", "vision.depth", "text.width", "text.depth"))


def _official_heads(path: Path, sizes: Mapping[str, int]) -> Stated:
    for part in ("vision", "text"):
        if sizes[f"{part}.width"] % _HEAD_WIDTH:
            raise CheckpointError(
                f"{path}: {part}.num_heads cannot be read off a checkpoint {sizes[f'{part}.width']} wide; pass "
                f"--model FILE.yaml with the model's sizes"
            )
    defaults = TextConfig()
    return Stated(
        by=f"{_HEAD_WIDTH}-wide heads",
        name="custom",
        vision_heads=sizes["vision.width"] // _HEAD_WIDTH,
        text_heads=sizes["text.width"] // _HEAD_WIDTH,
        layer_norm_eps=defaults.layer_norm_eps,
        embed_dim=ModelConfig.model_fields["embed_dim"].default,
    )
