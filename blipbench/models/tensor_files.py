"""One file of weights, read safely: a .safetensors, or what torch.save wrote. Nothing in it is run.

In: a path. Out: the tensors under their names, exactly as stored and backed by the file, and what lies beside them.
Anything else raises a CheckpointError that names the file, as do damaged and hostile files.
"""

import pickle
import re
import stat
import zipfile
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from blipbench.errors import CheckpointError
from blipbench.models.wrappers import unnest

# Key of a .safetensors header: which of its tensors were one in memory.
TIED_KEY = "blipbench.tied"

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
_TIED = TypeAdapter(dict[str, str])


def require_regular(file: Path) -> None:
    """Raise CheckpointError for a pipe, a socket, a device or a folder: reading one may never end."""
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise CheckpointError(f"{file}: not a regular file but {kind}; put a file in its place")


def refuse_foreign(file: Path) -> None:
    """Refuse the files that hosts and tools leave in place of a checkpoint, before any parser reads them."""
    require_regular(file)
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


def read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a .safetensors file, tied ones under all their names, and the metadata of its header."""
    refuse_foreign(file)
    try:
        with safe_open(file, framework="pt") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError, AttributeError) as error:  # AttributeError: a dtype that torch does not know
        raise CheckpointError(f"{file}: damaged or not a safetensors file ({error}); download it again") from error
    try:
        tied = _TIED.validate_json(metadata.get(TIED_KEY, "{}"))
    except ValidationError as error:
        raise CheckpointError(f"{file}: header {TIED_KEY}: expected an object of names; the file is damaged") from error
    for copy, original in tied.items():
        if original not in tensors:
            raise CheckpointError(f"{file}: header {TIED_KEY}: names {original!r}, which the file does not have")
        tensors[copy] = tensors[original]
    for name, tensor in tensors.items():
        _require_plain(file, name, tensor)
    return tensors, metadata


def read_torch(file: Path) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """The state dict of a torch.save file, the keys that it is nested under, and the names of everything else in it."""
    refuse_foreign(file)
    mapped = _is_zip(file)
    try:
        # Only zip files can be mapped, and mapping spares reading momentum copies that nobody asks for.
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{file}: {_unpickling_problem(str(error))}") from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, OSError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise CheckpointError(f"{file}: truncated, or not a checkpoint ({reason}); download it again") from error
    except Exception as error:  # on hostile bytes the unpickler raises struct.error, AssertionError, ...
        raise CheckpointError(f"{file}: damaged ({type(error).__name__}: {error}); download it again") from error
    content, nests, extras = unnest(file, content)
    if not isinstance(content, dict) or not content:
        raise CheckpointError(
            f"{file}: holds a {type(content).__name__}, expected a state dict or {{'model': state_dict}}"
        )
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise CheckpointError(
                f"{file}: {name!r:.100} is a {type(tensor).__name__}, expected a dense tensor of a state dict"
            )
        _require_plain(file, name, tensor)
    return dict(content), nests, extras


def _is_zip(file: Path) -> bool:
    """Whether it is a zip, as torch writes today. Raises CheckpointError for a compressed one.

    torch never compresses. It would map the compressed bytes of such a file as if they were the weights.
    """
    if not zipfile.is_zipfile(file):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{file}: truncated, or not a checkpoint ({error}); download it again") from error
    if compressed:
        raise CheckpointError(
            f"{file}: a zip file that was compressed after torch wrote it; unpack it, and pack it without compression "
            f"(zip -0)"
        )
    return True


def _require_plain(file: Path, name: str, tensor: Tensor) -> None:
    """Raise CheckpointError for a tensor that is not an array of numbers in memory, or has no name to print."""
    if not name.isprintable():
        raise CheckpointError(f"{file}: {name!r:.100}: a tensor's name with characters that cannot be printed")
    kind = (
        "is quantized"
        if tensor.is_quantized
        else "is a nested tensor"
        if tensor.is_nested
        else "is on the meta device"
        if tensor.is_meta
        else f"has dtype {str(tensor.dtype).removeprefix('torch.')}"
        if tensor.dtype not in (*FLOATS, *_INTEGERS)
        else None
    )
    if kind is not None:
        raise CheckpointError(f"{file}: {name!r} {kind}, which is not supported; save it as float32")
    size = tensor.numel() * tensor.element_size()
    if size > max(tensor.untyped_storage().nbytes(), file.stat().st_size):
        raise CheckpointError(f"{file}: {name!r} claims {size:,} bytes, more than the file has; it is damaged")


def _unpickling_problem(reason: str) -> str:
    """Tell a file that holds code from one that is broken."""
    way_out = "was not run; if you trust it, load it yourself and save {'model': state_dict} or a .safetensors"
    if (code := re.search(r"GLOBAL ([\w.]+)", reason)) is not None:
        return f"holds code ({code.group(1)}), not only tensors, and {way_out}"
    if "Unsupported operand" in reason:
        return f"a pickle of another kind than torch saves, which may hold code and {way_out}"
    return "truncated, or not a checkpoint; download it again"
