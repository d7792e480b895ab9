"""Loads a checkpoint from any source, and puts its weights into a model.

`load_checkpoint` reads one (see `checkpoint_files.py` for where from) and says what it is: kind, sizes, heads.
`load_weights` puts it into a module, strictly: a head that is not in the file is never left random.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from blipbench.download import DownloadProgress
from blipbench.errors import CheckpointError, UsageError
from blipbench.models.catalog import Kind, load_catalog
from blipbench.models.checkpoint_files import Layout, TensorFile, locate, read_tensors
from blipbench.models.config import ModelConfig, TextConfig
from blipbench.models.sizes import KIND_MODULES, MODULES, ignored_as, kind_of, modules_in, read_sizes, resolve_config
from blipbench.models.tensor_files import require_regular

_KIND_WORDS: dict[Kind, str] = {
    "retrieval": "a retrieval checkpoint",
    "itm": "an image-text matching checkpoint",
    "pretrain": "a pre-training checkpoint",
    "caption": "a captioning checkpoint",
    "vqa": "a VQA checkpoint",
    "nlvr": "an NLVR checkpoint",
    "features": "a feature extractor",
}


@dataclass(frozen=True)
class Checkpoint:
    """Weights for evaluation, and what they are. Momentum copies, queues and position ids are left out and counted."""

    path: Path
    sha256: str
    layout: Layout
    kind: Kind
    config: ModelConfig
    state_dict: dict[str, Tensor]  # float32 on the CPU, official names
    heads: tuple[str, ...]  # encoders, decoder and heads that are in it
    vocab: Path | None  # the vocab.txt beside it, where that is the one it was trained with
    num_parameters: int  # a tensor that two names share counts once
    num_ignored: int


def load_checkpoint(
    source: str,
    *,
    config: ModelConfig | None = None,
    configs: Sequence[ModelConfig] = (),
    progress: DownloadProgress | None = None,
) -> Checkpoint:
    """Read a checkpoint from a .pth, a .safetensors, a transformers folder, a hub id or a bundled or official
    file's name.

    Sizes are read off its tensors. Head counts cannot be: they come from `config`, else from what the file states, else
    from the one of `configs` with its widths and depths, else from 64-wide heads. `progress` reports a download.

    Raises CheckpointError for a file that is absent, damaged, hostile, not BLIP's, holds NaN or infinite weights, or
    needs a vocabulary that does not lie beside it; UsageError where `config` is of another model.
    """
    file = read_tensors(locate(source, progress))
    kind = kind_of(file.path, file.tensors)
    resolved = resolve_config(file.path, read_sizes(file.path, file.tensors), config, file.stated, configs)
    weights = as_float32({name: tensor for name, tensor in file.tensors.items() if ignored_as(name) is None})
    require_finite(file.path, weights)
    vocab = find_vocabulary(file, resolved.text.vocab_size)
    if vocab is None and resolved.text.vocab_size != TextConfig().vocab_size:
        beside = _entries_beside(file)
        found = "" if beside is None else f" (the vocab.txt there has {beside} entries with [DEC] and [ENC])"
        raise CheckpointError(
            f"{file.path}: it has {resolved.text.vocab_size} token embeddings where bert-base-uncased has "
            f"{TextConfig().vocab_size}; put the vocab.txt it was trained with beside it, in {file.folder}{found}"
        )
    return Checkpoint(
        path=file.path,
        sha256=file.sha256,
        layout=file.layout,
        kind=kind,
        config=resolved,
        state_dict=weights,
        heads=modules_in(weights),
        vocab=vocab,
        num_parameters=count_parameters(weights.values()),
        num_ignored=len(file.tensors) - len(weights),
    )


def load_weights(module: nn.Module, checkpoint: Checkpoint, task: str) -> None:
    """Copy a checkpoint's weights into `module`; position embeddings are resized to its image size.

    Weights of heads that `module` does not have are ignored, and so is `temp`. Raises UsageError where a whole head is
    missing (a checkpoint of another task; the message names the official files that have it), CheckpointError for any
    other missing or unexpected tensor and for a shape that differs.
    """
    wanted: dict[str, Tensor] = module.state_dict()
    given = checkpoint.state_dict
    _require_all(wanted, checkpoint, task)
    passed_over = {*MODULES, "temp"} - {name.split(".")[0] for name in wanted}
    unexpected = [name for name in given if name not in wanted and name.split(".")[0] not in passed_over]
    if unexpected:
        raise CheckpointError(
            f"{checkpoint.path}: {len(unexpected)} tensors have no place in the model of {task}: {_listed(unexpected)}"
            f"; the file is of another architecture"
        )
    fitted: dict[str, Tensor] = {}
    for name, target in wanted.items():
        weight = given[name]
        if name == "visual_encoder.pos_embed" and weight.shape != target.shape and weight.shape[2] == target.shape[2]:
            weight = resize_position_embedding(weight, round((target.shape[1] - 1) ** 0.5))
        if weight.shape != target.shape:
            raise CheckpointError(
                f"{checkpoint.path}: {name} has shape {list(weight.shape)}, "
                f"but the model of {task} has {list(target.shape)} there"
            )
        fitted[name] = weight
    module.load_state_dict(fitted)


def resize_position_embedding(pos_embed: Tensor, grid: int) -> Tensor:
    """Learned positions [1, 1 + g * g, width] resampled to [1, 1 + grid * grid, width]. The class token's are kept.

    Bicubic and without antialiasing, as the reference does.
    """
    resized: Tensor = resample_abs_pos_embed(pos_embed, [grid, grid], interpolation="bicubic", antialias=False)
    return resized


def as_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in float32; two names of one tensor stay one tensor."""
    converted = {identity(tensor): tensor.float() for tensor in tensors.values()}
    return {name: converted[identity(tensor)] for name, tensor in tensors.items()}


def count_parameters(tensors: Iterable[Tensor]) -> int:
    """Elements in all, each tensor once however many names it has."""
    return sum({identity(tensor): tensor.numel() for tensor in tensors}.values())


def find_vocabulary(file: TensorFile, vocab_size: int) -> Path | None:
    """The vocab.txt beside a checkpoint if, with [DEC] and [ENC], it has `vocab_size` entries.

    Raises CheckpointError for one that is not a regular file.
    """
    return file.folder / "vocab.txt" if _entries_beside(file) == vocab_size else None


def _entries_beside(file: TensorFile) -> int | None:
    """How many different entries the vocab.txt beside a checkpoint has with [DEC] and [ENC]; None if there is none."""
    path = file.folder / "vocab.txt"
    if not path.exists():
        return None
    require_regular(path)
    entries = set(path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n"))
    return len(entries | {"[DEC]", "[ENC]"})


def identity(tensor: Tensor) -> tuple[object, ...]:
    """Equal for two tensors that are one in memory."""
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes(), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def require_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError if a weight is NaN or infinite."""
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(
                f"{path}: {name}: {bad} of {tensor.numel()} weights are NaN or infinite; the training diverged or the "
                f"file is damaged"
            )


def _require_all(wanted: Mapping[str, Tensor], checkpoint: Checkpoint, task: str) -> None:
    missing = [name for name in wanted if name not in checkpoint.state_dict]
    if not missing:
        return
    lacking = list(dict.fromkeys(name.split(".")[0] for name in missing))
    absent = [module for module in lacking if module not in checkpoint.heads]
    official = _official_files(task, set(absent or lacking))
    if absent:
        needed = dict.fromkeys(name.split(".")[0] for name in wanted)
        raise UsageError(
            f"{checkpoint.path} is {_KIND_WORDS[checkpoint.kind]} ({', '.join(checkpoint.heads)}; no "
            f"{', no '.join(absent)}), but {task} needs {', '.join(needed)}. "
            f"Official files that have them: {official}"
        )
    grouped = "; ".join(
        f"{module}: {_listed([name for name in missing if name.split('.')[0] == module])}" for module in lacking
    )
    raise CheckpointError(
        f"{checkpoint.path}: {len(missing)} tensors that {task} needs are missing ({grouped}). "
        f"Official files that have them: {official}"
    )


def _official_files(task: str, modules: set[str]) -> str:
    """The official files meant for the task or, for a user's own task, those that have the modules."""
    entries = [entry for entry in load_catalog() if task in entry.tasks]
    if not entries:
        entries = [entry for entry in load_catalog() if modules <= set(KIND_MODULES[entry.kind])]
    return ", ".join(entry.file for entry in entries) or "none"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
