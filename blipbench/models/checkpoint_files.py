"""Reads the tensors of a checkpoint safely, from any source, without changing them.

In: a .pth, a .safetensors, a transformers folder, a hub id, or the name of a bundled or an official file. Out: a
`TensorFile`: tensors under official names, exactly as stored, with the hash of the files they came from. Nothing in a
file is run.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import huggingface_hub
from pydantic import AfterValidator, BaseModel, Field, ValidationError
from torch import Tensor

from blipbench.config.files import lower_first
from blipbench.config.paths import bundled_checkpoints
from blipbench.download import DownloadProgress, cache_dir, fetch, hash_file
from blipbench.errors import CheckpointError, DataError
from blipbench.models.catalog import find_entry, nearest_names
from blipbench.models.config import ModelConfig
from blipbench.models.layouts import is_transformers, to_official
from blipbench.models.sizes import MODULES, Stated, ignored_as, stated_by
from blipbench.models.tensor_files import FLOATS, read_safetensors, read_torch, refuse_foreign, require_regular
from blipbench.models.wrappers import unwrap_names

Layout = Literal["official", "safetensors", "transformers"]

# Key of a .safetensors header: the model's sizes.
CONFIG_KEY = "blipbench.model"

# First parts of tensor names in the official and the transformers layout, and of timm's ViT alone (`train --vit`).
_BLIP = (*MODULES, "vision_model")
_VIT = ("cls_token", "pos_embed", "patch_embed", "blocks")

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SHARD = re.compile(r"[\w.-]{1,200}\.(safetensors|bin)")
_HUB_FILES = (
    *("config.json", "vocab.txt"),
    *("preprocessor_config.json", "processor_config.json"),  # the rest is CLIP's and SigLIP's
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "spiece.model"),
)


@dataclass(frozen=True)
class TensorFile:
    """A checkpoint on disk. `path` is the file, or the folder of a transformers checkpoint."""

    path: Path
    sha256: str  # of the weight file; where there are several, of their hashes
    layout: Layout
    tensors: dict[str, Tensor]  # official names; dtypes and sharing as stored; backed by the file
    extras: tuple[str, ...]  # what lies beside the state dict: optimizer, epoch, ...
    stated: Stated | None
    unwrapped: str = ""  # nests and prefixes of names that were taken off, e.g. "state_dict: model."

    @property
    def folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent


def locate(source: str, progress: DownloadProgress | None = None) -> Path:
    """The file or folder of `source`: a path, the name of a bundled checkpoint or of an official file, or a hub id.

    Official files and hub checkpoints are downloaded once, into their caches. Raises CheckpointError.
    """
    path = Path(source).expanduser()
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:  # a name that is too long or no name
        raise CheckpointError(f"{source[:100]!r}: not the name of a checkpoint ({error})") from error
    if exists:
        if not path.is_dir():
            require_regular(path)
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
    """Read a checkpoint file or transformers folder. Raises CheckpointError if it is damaged or hostile."""
    config_json: dict[str, Any] | None = None
    if path.is_dir():
        config_json = read_json(path / "config.json", f"{path}: a transformers folder needs config.json")
        files = _weight_files(path)
    else:
        files = [path]
        beside = path.with_name("config.json")
        if beside.is_file() and path.suffix in (".safetensors", ".bin"):
            config_json = read_json(beside, f"{path}: its sizes are read from config.json beside it")
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    extras: list[str] = []
    nests: list[str] = []
    for file in files:
        if file.suffix == ".safetensors":
            found, metadata = read_safetensors(file)
        else:
            found, nests, extras = read_torch(file)
        tensors |= found
    digest = _hash_of(files)
    is_blip = any(part in _BLIP for name in tensors for part in name.split("."))
    names, prefix = unwrap_names(path, list(tensors), _BLIP if is_blip else _VIT)
    extras += [name for name in tensors if name not in names]
    tensors = {new: tensors[old] for old, new in names.items()}
    _require_floats(path, tensors)
    unwrapped = ": ".join(filter(None, [" > ".join(nests), prefix])) if nests not in ([], ["model"]) or prefix else ""
    if is_transformers(set(tensors)):
        stated = _stated_by_transformers(files[0].with_name("config.json"), config_json)
        official = to_official(tensors)
        return TensorFile(path, digest, "transformers", official, tuple(extras), stated, unwrapped)
    layout: Layout = "safetensors" if files[0].suffix == ".safetensors" else "official"
    return TensorFile(path, digest, layout, tensors, tuple(extras), _stated_by_header(path, metadata), unwrapped)


def hash_weights(folder: Path) -> str:
    """The sha256 of a transformers folder's weights (see TensorFile). Raises CheckpointError where files are missing,
    empty or evidently no checkpoint."""
    files = _weight_files(folder)
    for file in files:
        refuse_foreign(file)
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
        if (folder / name).exists():
            require_regular(folder / name)
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.exists():
            shards = read_json(index, f"{index}: the shards are read from this index").get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise CheckpointError(f"{index}: weight_map: expected tensor names with their files")
            for tensor, shard in shards.items():
                if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
                    raise CheckpointError(
                        f"{index}: weight_map: {tensor!r:.100}: expected the name of a .safetensors or .bin file, "
                        f"found {shard!r:.100}"
                    )
            files = [folder / shard for shard in sorted(set(shards.values()))]
            if absent := [file.name for file in files if not file.exists()]:
                raise CheckpointError(
                    f"{folder}: {len(absent)} of {len(files)} shards are missing: {', '.join(absent)}"
                )
            return files
    raise CheckpointError(f"{folder}: no model.safetensors, pytorch_model.bin or index of shards in the folder")


def _require_floats(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for weights that are integers: the codes of a quantization, useless without its scales."""
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS and ignored_as(name) is None:
            found = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"{path}: {name!r} has dtype {found}, expected floating point; save it as float32")


def _hash_of(files: Sequence[Path]) -> str:
    """The hash of a file; of several, that of their own hashes: order and content both count."""
    if len(files) == 1:
        return hash_file(files[0])
    return hashlib.sha256("\n".join(hash_file(file) for file in files).encode()).hexdigest()


def read_json(file: Path, what: str) -> dict[str, Any]:
    """A JSON object. Otherwise raises a CheckpointError whose message begins with `what`."""
    if file.exists() and not file.is_file():
        raise CheckpointError(f"{what}, which is not a regular file")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise CheckpointError(f"{what}, which is nested too deeply to be read") from error
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


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed")
    return text


class _Part(BaseModel):
    """What is read of vision_config and text_config. Whether heads divide the width is checked later."""

    num_attention_heads: Annotated[int, Field(gt=0, le=2**10, strict=True)] | None = None
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-12


class _TransformersConfig(BaseModel):
    vision_config: _Part | None = None
    text_config: _Part | None = None
    image_text_hidden_size: Annotated[int, Field(gt=0, le=2**16, strict=True)] = 256
    name: Annotated[str, AfterValidator(_printable)] | None = Field(default=None, alias="_name_or_path")


def _stated_by_transformers(file: Path, content: dict[str, Any] | None) -> Stated | None:
    """The head counts of config.json; None if it leaves either out (transformers' own defaults are not BLIP's)."""
    try:
        config = _TransformersConfig.model_validate(content or {})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{file}: {field}: {lower_first(first['msg'])}, found {first['input']!r:.60}") from error
    vision, text = config.vision_config or _Part(), config.text_config or _Part()
    if vision.num_attention_heads is None or text.num_attention_heads is None:
        return None
    return Stated(
        by="config.json",
        name=config.name or "transformers",
        vision_heads=vision.num_attention_heads,
        text_heads=text.num_attention_heads,
        layer_norm_eps=text.layer_norm_eps,
        embed_dim=config.image_text_hidden_size,
    )
