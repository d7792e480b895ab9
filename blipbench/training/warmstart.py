"""The first weights of a run: a BLIP checkpoint (`--init`), or BERT's and a ViT's, as the paper starts pre-training.

In: an objective with random weights. Out: the same with the given ones. A checkpoint that does not fit is refused with
the tensors that are missing or of another shape; what may be missing is only what the task adds:
    NLVR    the head, and the merging layers; a single cross-attention starts both images'
    VQA     the decoder's cross-attention, where its checkpoint's read image tokens of another width
Pre-training and VQA go on from a captioner too: the encoder starts as its decoder. What a captioner lacks besides, the
projections and the ITM head, starts at random.
"""

import dataclasses
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from blipbench.errors import CheckpointError, UsageError
from blipbench.models.checkpoint import as_float32, require_finite, resize_position_embedding
from blipbench.models.checkpoint_files import locate, read_tensors
from blipbench.models.config import ModelConfig
from blipbench.models.nlvr import twin_state_dict
from blipbench.models.sizes import Stated, grid_of, ignored_as, kind_of
from blipbench.progress import CountedProgress
from blipbench.training.contrastive import ContrastiveObjective
from blipbench.training.momentum import start_copies
from blipbench.training.spec import Kind, TrainSpec

_POSITIONS = "visual_encoder.pos_embed"

# The output layer of BERT is its word embedding; files leave the copies out: (copy, what it equals).
_BERT_TIED = (
    ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    ("cls.predictions.decoder.bias", "cls.predictions.bias"),
)

# What a checkpoint of another task may lack, and starts random.
_NOTHING = re.compile(r"(?!)")
_NLVR_ADDS = re.compile(r"cls_head\.|.*\.merge_layer\.")
_VQA_ADDS = re.compile(r"text_decoder\..*\.crossattention\.self\.(key|value)\.weight")
_CAPTIONER_LACKS = re.compile(r"(vision_proj|text_proj|itm_head)\.")


@dataclasses.dataclass(frozen=True)
class Start:
    """Where the initial weights come from. Without a source they are random."""

    init: str | None = None
    bert: Path | None = None
    vit: Path | None = None


def warm_start(spec: TrainSpec, objective: nn.Module, config: ModelConfig, start: Start, *, speak: bool) -> None:
    """Put the given weights into the objective; momentum copies start from them too.

    Raises UsageError for flags that exclude each other, CheckpointError for a checkpoint that does not fit.
    """
    if start.init and (start.bert or start.vit):
        raise UsageError("--init brings all weights; --bert and --vit are for starting without it")
    notes: list[str] = []
    if start.init:
        notes = _from_checkpoint(spec, objective, config, start.init, speak)
    if start.bert:
        notes += _from_bert(objective, start.bert)
    if start.vit:
        notes += _from_vit(objective, config, start.vit)
    if speak and notes:
        print("\n".join(notes), file=sys.stderr)


def _from_checkpoint(spec: TrainSpec, objective: nn.Module, config: ModelConfig, source: str, speak: bool) -> list[str]:
    with CountedProgress("download", "bytes", enabled=speak) as progress:
        file = read_tensors(locate(source, progress))
    kind = kind_of(file.path, file.tensors)
    _require_same_heads(source, file.stated, config)
    given: Mapping[str, Tensor] = as_float32(
        {name: tensor for name, tensor in file.tensors.items() if ignored_as(name) is None}
    )
    require_finite(file.path, given)
    given, may_start_random = _for_kind(spec.kind, kind, given)
    wanted = _trained(objective)
    fitted, random = {}, []
    missing: list[str] = []
    for name, target in wanted.items():
        tensor = given.get(name)
        if tensor is not None and name == _POSITIONS:
            tensor = _resized(file.path, tensor, config)
        if tensor is not None and tensor.shape == target.shape:
            fitted[name] = tensor
        elif may_start_random.match(name):
            random.append(name)
        else:
            found = "missing" if tensor is None else f"{list(tensor.shape)} instead of {list(target.shape)}"
            missing.append(f"{name} ({found})")
    if missing:
        raise CheckpointError(
            f"--init {source}: a {kind} checkpoint that does not fit {spec.name} ({spec.kind}): "
            f"{len(missing)} of {len(wanted)} tensors: {_listed(missing)}"
        )
    _load(objective, fitted)
    return [f"--init {source}: {len(fitted)} tensors", *([f"  start random: {_listed(random)}"] if random else [])]


def _for_kind(wanted: Kind, kind: str, given: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], re.Pattern[str]]:
    """The weights under the names of the objective's kind, and the tensors that may start at random."""
    if wanted == "nlvr":
        return twin_state_dict(given), _NLVR_ADDS
    if kind == "caption" and wanted in ("pretrain", "vqa"):
        decoder = "text_decoder.bert."
        encoder = {name.replace(decoder, "text_encoder."): t for name, t in given.items() if name.startswith(decoder)}
        given = {**given, **encoder}
    if wanted == "vqa":
        return given, _VQA_ADDS
    if wanted == "pretrain" and kind == "caption":
        return given, _CAPTIONER_LACKS
    return given, _NOTHING


def _require_same_heads(source: str, stated: Stated | None, config: ModelConfig) -> None:
    """Tensors do not show the number of heads; some files state it."""
    if stated is None:
        return
    found = {"vision": stated.vision_heads, "text": stated.text_heads}
    for part, heads in {"vision": config.vision.num_heads, "text": config.text.num_heads}.items():
        if found[part] != heads:
            raise CheckpointError(
                f"--init {source}: {part}.num_heads is {found[part]} ({stated.by}), but {heads} in this model"
            )


def _from_bert(objective: nn.Module, folder: Path) -> list[str]:
    """Everything that BERT has: embeddings, self-attention, feed-forward, and the decoder's head."""
    if not os.path.exists(folder / "config.json"):  # unlike Path.exists, no error for a name that is too long
        raise CheckpointError(f"--bert {folder}: not a transformers folder: it has no config.json")
    file = read_tensors(folder)
    require_finite(file.path, file.tensors)
    bert = _as_masked_lm(as_float32(file.tensors))
    fitted: dict[str, Tensor] = {}
    for name, target in _trained(objective).items():
        tensor = bert.get(_bert_name(name))
        if tensor is None:
            continue
        if tensor.ndim and tensor.shape[1:] == target.shape[1:] and len(tensor) == len(target) - 2:
            tensor = torch.cat([tensor, target[-2:]])  # the rows of [DEC] and [ENC] are BLIP's own
        if tensor.shape != target.shape:
            raise CheckpointError(
                f"--bert {folder}: {name} is {list(tensor.shape)}, but {list(target.shape)} in this model"
            )
        fitted[name] = tensor
    if not fitted:
        raise CheckpointError(f"--bert {folder}: no tensor of it is the text encoder's")
    _load(objective, fitted)
    return [f"--bert {folder}: {len(fitted)} tensors; cross-attention and the heads start random"]


def _as_masked_lm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a BERT under the names of transformers' BertForMaskedLM, whichever class of BERT they are from."""
    bare = "embeddings.word_embeddings.weight" in tensors  # as BertModel names them
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = f"bert.{name}" if bare else name
        named[full.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    for copy, original in _BERT_TIED:
        if original in named:
            named.setdefault(copy, named[original])
    return named


def _bert_name(name: str) -> str:
    """The name in transformers' BertForMaskedLM of an official tensor."""
    if name.startswith("text_encoder."):
        return "bert." + name.removeprefix("text_encoder.")
    return name.removeprefix("text_decoder.")


def _from_vit(objective: nn.Module, config: ModelConfig, file: Path) -> list[str]:
    """A timm VisionTransformer's state dict, whose names are the image encoder's, or a BLIP checkpoint with one."""
    if not os.path.exists(file):
        raise CheckpointError(f"--vit {file}: there is no such file")
    vit = as_float32(read_tensors(file).tensors)
    require_finite(file, vit)
    fitted: dict[str, Tensor] = {}
    missing: list[str] = []
    for name, target in _trained(objective).items():
        if not name.startswith("visual_encoder."):
            continue
        tensor = vit.get(name, vit.get(name.removeprefix("visual_encoder.")))
        if tensor is not None and name == _POSITIONS:
            tensor = _resized(file, tensor, config)
        if tensor is None or tensor.shape != target.shape:
            found = "missing" if tensor is None else f"{list(tensor.shape)} instead of {list(target.shape)}"
            missing.append(f"{name} ({found})")
        else:
            fitted[name] = tensor
    if missing:
        raise CheckpointError(f"--vit {file}: does not fit: {_listed(missing)}")
    _load(objective, fitted)
    return [f"--vit {file}: {len(fitted)} tensors"]


def _resized(path: Path, positions: Tensor, config: ModelConfig) -> Tensor:
    if positions.ndim != 3 or positions.shape[-1] != config.vision.width:
        return positions
    grid_of(path, {_POSITIONS: positions}, _POSITIONS)
    return resize_position_embedding(positions, config.vision.image_size // config.vision.patch_size)


def _trained(objective: nn.Module) -> dict[str, Tensor]:
    """The tensors that a checkpoint must have: all but momentum copies, queues, position ids and the temperature."""
    return {name: t for name, t in objective.state_dict().items() if ignored_as(name) is None and name != "temp"}


def _load(objective: nn.Module, fitted: Mapping[str, Tensor]) -> None:
    objective.load_state_dict(dict(fitted), strict=False)
    if isinstance(objective, ContrastiveObjective):
        start_copies(objective.momentum_pairs())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
