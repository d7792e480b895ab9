"""Writing a checkpoint in another layout: `blipbench ckpt convert`. Every tensor that is kept is kept bit for bit.

In: any checkpoint that can be read, and a layout. Out: a .pth with the official names, a .safetensors with the same and
the model's sizes in its header, or a folder that transformers' `from_pretrained` takes. Nothing half written is left.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from blipbench.download import DownloadProgress
from blipbench.errors import CheckpointError, UsageError
from blipbench.models.catalog import Kind
from blipbench.models.checkpoint import find_vocabulary, identity
from blipbench.models.checkpoint_files import CONFIG_KEY, Layout, TensorFile, locate, read_tensors
from blipbench.models.config import ModelConfig
from blipbench.models.layouts import to_transformers, transformers_config
from blipbench.models.sizes import kind_of, read_sizes, resolve_config, shape_of
from blipbench.models.tensor_files import TIED_KEY
from blipbench.models.tokenizer import BUNDLED_VOCAB, load_tokenizer


@dataclass(frozen=True)
class Conversion:
    """What was written, and what the layout cannot hold."""

    out: Path
    layout: Layout
    num_tensors: int
    left_out: tuple[str, ...]

    def lines(self) -> list[str]:
        """The conversion as text. Tensors of one module that are left out share a line."""
        written = f"{self.out}: {self.num_tensors} tensors in the {self.layout} layout"
        modules: dict[str, list[str]] = {}
        for name in self.left_out:
            modules.setdefault(name.split(".")[0], []).append(name)
        named = [
            names[0] if len(names) == 1 else f"{module} ({len(names)} tensors)" for module, names in modules.items()
        ]
        return [written, *(f"  left out: {name}" for name in named)]


def convert_checkpoint(
    source: str,
    out: Path,
    layout: Layout,
    *,
    config: ModelConfig | None = None,
    configs: Sequence[ModelConfig] = (),
    progress: DownloadProgress | None = None,
) -> Conversion:
    """Write `source` to `out` in `layout`; the other arguments are those of `load_checkpoint`.

    Between official and safetensors every tensor is kept, momentum copies and queues too; transformers keeps what its
    class has. A vocabulary of the checkpoint's own goes along. Raises UsageError for a layout that cannot hold the
    model and a folder that is not empty, CheckpointError for a source or a target that cannot be read or written.
    """
    file = read_tensors(locate(source, progress))
    kind = kind_of(file.path, file.tensors)
    extras = tuple(f"{name} (not a tensor of the model)" for name in file.extras)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if layout == "official":
            with _replacing(out) as temporary:
                _write_pth(file.tensors, temporary)
            bring_vocabulary(file.folder, out.parent)
            return Conversion(out, layout, len(file.tensors), extras)
        resolved = resolve_config(file.path, read_sizes(file.path, file.tensors), config, file.stated, configs)
        if layout == "safetensors":
            with _replacing(out) as temporary:
                write_safetensors(file.tensors, resolved, temporary)
            bring_vocabulary(file.folder, out.parent)
            return Conversion(out, layout, len(file.tensors), extras)
        kept, left_out = to_transformers(file.path, file.tensors, kind)
        _write_folder(file, kept, resolved, kind, out)
        return Conversion(out, layout, len(kept), (*left_out, *extras))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{out}: cannot be written ({getattr(error, 'strerror', None) or error})") from error


def save_checkpoint(tensors: Mapping[str, Tensor], config: ModelConfig, out: Path) -> None:
    """Write official tensors to `out`, a .pth or a .safetensors; only the latter also says the sizes.

    Raises UsageError for another suffix, CheckpointError for a target that cannot be written.
    """
    if out.suffix not in (".pth", ".safetensors"):
        raise UsageError(f"{out}: a checkpoint file is a .pth or a .safetensors")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(out) as temporary:
            if out.suffix == ".pth":
                _write_pth(tensors, temporary)
            else:
                write_safetensors(tensors, config, temporary)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{out}: cannot be written ({getattr(error, 'strerror', None) or error})") from error


def _write_pth(tensors: Mapping[str, Tensor], path: Path) -> None:
    with open(path, "wb") as file:
        try:
            torch.save({"model": _compact(tensors)}, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch hides why a write failed
                raise error.__context__ from error
            raise


def write_safetensors(tensors: Mapping[str, Tensor], config: ModelConfig, path: Path) -> None:
    """Write the tensors, and the sizes in the header. Raises OSError or SafetensorError if that fails.

    safetensors has no tensors that share memory: the second name of one goes into the header.
    """
    original: dict[tuple[object, ...], str] = {}
    tied = {}
    for name, tensor in tensors.items():
        if original.setdefault(identity(tensor), name) != name:
            tied[name] = original[identity(tensor)]
    metadata = {"format": "pt", TIED_KEY: json.dumps(tied), CONFIG_KEY: config.model_dump_json()}
    alone = _compact({name: tensor for name, tensor in tensors.items() if name not in tied})
    path.touch()
    mode = path.stat().st_mode  # safetensors would leave the file to its owner alone
    save_file(alone, path, metadata=metadata)
    _sort_metadata(path)
    path.chmod(mode)


def _sort_metadata(path: Path) -> None:
    """Bring a header's metadata, which safetensors writes in random order, into one: equal weights, equal files.

    A .safetensors file begins with the header's length (8 bytes, little-endian) and the header, JSON filled up with
    spaces. Sorted, it has the same length.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        content = json.loads(file.read(length))
        content["__metadata__"] = dict(sorted(content["__metadata__"].items()))
        written = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        if len(written) > length:
            raise AssertionError(f"{path}: the header grew from {length} to {len(written)} bytes")
        file.seek(8)
        file.write(written.ljust(length))


def _compact(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor in a storage of exactly its size, as writers require. Two names of one tensor still share it."""
    copies: dict[tuple[object, ...], Tensor] = {}
    for tensor in tensors.values():
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        copies[identity(tensor)] = tensor if whole else tensor.clone(memory_format=torch.contiguous_format)
    return {name: copies[identity(tensor)] for name, tensor in tensors.items()}


def _write_folder(file: TensorFile, tensors: dict[str, Tensor], config: ModelConfig, kind: Kind, out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: is there already; give a new folder for the transformers layout")
    vocab = find_vocabulary(file, config.text.vocab_size) or BUNDLED_VOCAB
    tokenizer = load_tokenizer(vocab)
    if tokenizer.vocab_size != config.text.vocab_size:
        raise CheckpointError(
            f"{file.path}: it has {config.text.vocab_size} token embeddings, the bundled vocabulary "
            f"{tokenizer.vocab_size}; put the vocab.txt it was trained with beside it, in {file.folder}"
        )
    mlp_width, _ = shape_of(file.path, file.tensors, "visual_encoder.blocks.0.mlp.fc1.weight", 2)
    settings = transformers_config(config, kind, tokenizer, mlp_width)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        write_safetensors(tensors, config, temporary / "model.safetensors")
        (temporary / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(vocab, temporary / "vocab.txt")
        os.replace(temporary, out)  # an empty folder is replaced, a full one refused above
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def bring_vocabulary(origin: Path, folder: Path) -> None:
    """Copy the checkpoint's own vocabulary if it has one. Without it the checkpoint is useless."""
    source, target = origin / "vocab.txt", folder / "vocab.txt"
    if source.is_file() and not target.exists() and source.read_bytes() != BUNDLED_VOCAB.read_bytes():
        shutil.copyfile(source, target)


@contextlib.contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A temporary path beside `out`. It replaces `out` if the block succeeds and is removed if it fails."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
