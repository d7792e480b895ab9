"""Reading tensors from wherever a checkpoint lies, safely and without changing them.

In: a .pth, a .safetensors, a transformers folder, a hub id, or the name of a bundled or an official file. Out: a
`TensorFile`: tensors under official names, exactly as stored, with the hash of the files they came from. Nothing in a
file is run.
"""

import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from blipbench.config.paths import bundled_checkpoints
from blipbench.download import Progress, cache_dir, fetch, hash_file
from blipbench.errors import CheckpointError, DataError
from blipbench.models.catalog import find_entry, nearest_names
from blipbench.models.config import ModelConfig
from blipbench.models.layouts import is_transformers, to_official
from blipbench.models.sizes import Stated, stated_by

Layout = Literal["official", "safetensors", "transformers"]

# Keys of a .safetensors header: the model's sizes, and which of its tensors were one in memory.
CONFIG_KEY = "blipbench.model"
TIED_KEY = "blipbench.tied"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = (
    *("config.json", "vocab.txt"),
    *("preprocessor_config.json", "processor_config.json"),  # the rest is CLIP's and SigLIP's
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "spiece.model"),
)


@dataclass(frozen=True)
class TensorFile:
    """A checkpoint as it lies on disk. `path` is the file, or the folder of a transformers checkpoint."""

    path: Path
    sha256: str  # of the weight file; where there are several, of their hashes
    layout: Layout
    tensors: dict[str, Tensor]  # official names; dtypes and sharing as stored; backed by the file
    extras: tuple[str, ...]  # what lies beside the state dict: optimizer, epoch, ...
    stated: Stated | None

    @property
    def folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent


def locate(source: str, progress: Progress | None = None) -> Path:
    """The file or folder that `source` means: a path, else the name of a bundled checkpoint or an official file, else a
    hub id.

    Official files and hub checkpoints are downloaded once, into their caches. Raises CheckpointError.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if (bundled := bundled_checkpoints().get(source)) is not None:
        return bundled
    if (entry := find_entry(source)) is not None:
        try:
            return fetch(entry.url, cache_dir() / "checkpoints" / entry.file, progress=progress)
        except DataError as error:
            raise CheckpointError(str(error)) from error
    if _HUB_ID.fullmatch(source) and path.suffix not in (".pth", ".pt", ".bin", ".safetensors"):
        return _from_hub(source)
    near = nearest_names(path.name)
    hint = (
        f"; did you mean {' or '.join(near)}?"
        if near
        else "; give a path, the name of a bundled or official file, or a hub id"
    )
    raise CheckpointError(f"{source}: there is no such checkpoint file{hint}")


def read_tensors(path: Path) -> TensorFile:
    """Read a checkpoint file or transformers folder. Raises CheckpointError when it is damaged, hostile or none."""
    config_json: dict[str, Any] | None = None
    if path.is_dir():
        config_json = read_json(path / "config.json", f"{path}: a transformers folder needs config.json")
        files = _weight_files(path)
    else:
        files = [path]
        if path.with_name("config.json").is_file() and path.suffix in (".safetensors", ".bin"):
            config_json = read_json(path.with_name("config.json"), f"{path}: its config.json")
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    extras: tuple[str, ...] = ()
    for file in files:
        _refuse_foreign(file)
        if file.suffix == ".safetensors":
            found, metadata = _read_safetensors(file)
        else:
            found, extras = _read_torch(file)
        tensors |= found
    digest = _hash_of(files)
    if is_transformers(set(tensors)):
        return TensorFile(
            path, digest, "transformers", to_official(tensors), extras, _stated_by_transformers(config_json)
        )
    layout: Layout = "safetensors" if files[0].suffix == ".safetensors" else "official"
    return TensorFile(path, digest, layout, tensors, extras, _stated_by_header(path, metadata))


def hash_weights(folder: Path) -> str:
    """The sha256 of a transformers folder's weights (see TensorFile). Raises CheckpointError where files are missing,
    empty or evidently no checkpoint."""
    files = _weight_files(folder)
    for file in files:
        _refuse_foreign(file)
    return _hash_of(files)


def _from_hub(repo: str) -> Path:
    """A hub checkpoint's folder in huggingface_hub's cache: safetensors where the repository has them."""
    try:
        for weights in ("*.safetensors", "pytorch_model*.bin"):
            patterns = [*_HUB_FILES, weights, f"{weights}.index.json"]
            folder = Path(huggingface_hub.snapshot_download(repo, allow_patterns=patterns))
            if any(folder.glob(weights)):
                return folder
    except (OSError, ValueError) as error:  # the base classes of all that huggingface_hub raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{repo}: there is no such path, and it cannot be downloaded from the hub ({reason}); without a network, "
            f"download the folder elsewhere and give its path"
        ) from error
    raise CheckpointError(f"{repo}: the hub repository has no model weights (*.safetensors or pytorch_model*.bin)")


def _weight_files(folder: Path) -> list[Path]:
    """model.safetensors or pytorch_model.bin, or the shards that its index names."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = read_json(index, f"{index}: the index of shards").get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise CheckpointError(f"{index}: weight_map: expected tensor names with their files")
            files = [folder / Path(str(shard)).name for shard in sorted(set(shards.values()))]
            if absent := [file.name for file in files if not file.is_file()]:
                raise CheckpointError(
                    f"{folder}: {len(absent)} of {len(files)} shards are missing: {', '.join(absent)}"
                )
            return files
    raise CheckpointError(f"{folder}: no model.safetensors, pytorch_model.bin or index of shards in the folder")


def _refuse_foreign(file: Path) -> None:
    """Turn away what hosts and tools leave in place of a checkpoint, before any parser sees it."""
    try:
        with file.open("rb") as opened:
            start = opened.read(64).lstrip()
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
    if not start:
        raise CheckpointError(f"{file}: the file is empty; download it again")
    if start.startswith(b"<"):
        raise CheckpointError(f"{file}: a web page or error message, not a checkpoint: the host refused the download")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file}: a git-lfs pointer, not the checkpoint itself; run `git lfs pull` in its folder")


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: damaged or not a safetensors file ({error}); download it again") from error
    try:
        tied: dict[str, str] = json.loads(metadata.get(TIED_KEY, "{}"))
        tensors |= {copy: tensors[original] for copy, original in tied.items()}
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file}: header {TIED_KEY}: names tensors that the file does not have") from error
    return tensors, metadata


def _read_torch(file: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state dict of a torch.save file, bare or under 'model', and the names of what else is in it."""
    try:
        # Only zip files can be mapped, and mapping spares reading momentum copies that nobody asks for.
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{file}: {_unpickling_problem(str(error))}") from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, OSError, TypeError) as error:
        raise CheckpointError(f"{file}: truncated, or not a checkpoint ({error}); download it again") from error
    extras: tuple[str, ...] = ()
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        extras = tuple(str(key) for key in content if key != "model")
        content = content["model"]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(
            f"{file}: holds a {type(content).__name__}, expected a state dict or {{'model': state_dict}}"
        )
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise CheckpointError(
                f"{file}: {name!r} is a {type(tensor).__name__}, expected a dense tensor of a state dict"
            )
    return dict(content), extras


def _unpickling_problem(reason: str) -> str:
    """Tell a file that holds code from one that is broken."""
    way_out = "was not run; where you trust it, load it yourself and save {'model': state_dict} or a .safetensors"
    if (code := re.search(r"GLOBAL ([\w.]+)", reason)) is not None:
        return f"holds code ({code.group(1)}), not only tensors, and {way_out}"
    if "Unsupported operand" in reason:
        return f"a pickle of another kind than torch saves, which may hold code and {way_out}"
    return "truncated, or not a checkpoint; download it again"


def _hash_of(files: Sequence[Path]) -> str:
    """The hash of a file; of several, that of their own hashes: order and content both count."""
    if len(files) == 1:
        return hash_file(files[0])
    return hashlib.sha256("\n".join(hash_file(file) for file in files).encode()).hexdigest()


def read_json(file: Path, what: str) -> dict[str, Any]:
    """A JSON object; `what` begins the message of the CheckpointError that is raised where there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{what}, which cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{what}, which holds a {type(content).__name__} instead of an object")
    return content


def _stated_by_header(path: Path, metadata: dict[str, str]) -> Stated | None:
    if CONFIG_KEY not in metadata:
        return None
    try:
        return stated_by(ModelConfig.model_validate_json(metadata[CONFIG_KEY]), f"{path.name}'s header")
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: header {CONFIG_KEY}: not the sizes of a model ({error.errors()[0]['msg']})"
        ) from error


def _stated_by_transformers(config: dict[str, Any] | None) -> Stated | None:
    """The head counts of config.json; None where it leaves either out (transformers' own defaults are not BLIP's)."""
    vision, text = ((config or {}).get(part) or {} for part in ("vision_config", "text_config"))
    vision_heads, text_heads = vision.get("num_attention_heads"), text.get("num_attention_heads")
    if config is None or not isinstance(vision_heads, int) or not isinstance(text_heads, int):
        return None
    return Stated(
        by="config.json",
        name=str(config.get("_name_or_path") or "transformers"),
        vision_heads=vision_heads,
        text_heads=text_heads,
        layer_norm_eps=float(text.get("layer_norm_eps", 1e-12)),
        embed_dim=int(config.get("image_text_hidden_size", 256)),
    )
