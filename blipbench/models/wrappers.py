"""Takes off what training wrappers put around a state dict, so that a checkpoint saved from one loads as it is.

DistributedDataParallel names tensors "module.*", torch.compile "_orig_mod.*", Lightning "model.*" under "state_dict".
Everything else that a file holds beside the state dict is reported as an extra.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blipbench.errors import CheckpointError

NESTS = ("model", "state_dict", "model_state_dict", "module")  # keys under which a state dict is commonly saved
_INNER = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # put in the middle of names


def unnest(content: Any) -> tuple[Any, list[str], list[str]]:
    """The state dict inside, the keys that led to it, and what lies beside it."""
    path: list[str] = []
    extras: list[str] = []
    while isinstance(content, dict):
        key = next((nest for nest in NESTS if isinstance(content.get(nest), Mapping)), None)
        if key is None:
            break
        path.append(key)
        extras += [str(other) for other in content if other != key]
        content = content[key]
    return content, path, extras


def unwrap_names(file: Path, names: Sequence[str], modules: Sequence[str]) -> tuple[dict[str, str], str]:
    """New names by old ones, and the prefix that was taken off ("" if none was).

    `modules` are the first parts of the names that a model may have. Names without the prefix belong to something else,
    such as a loss, and are left out. Raises CheckpointError if the file holds several models under different prefixes.
    """
    plain = {name: _without_inner(name) for name in names}
    prefixes = {prefix for name in plain.values() if (prefix := _prefix(name, modules)) is not None}
    if len(prefixes) > 1 and "" not in prefixes:
        shown = ", ".join(sorted(repr(prefix) for prefix in prefixes))
        raise CheckpointError(f"{file}: holds several models, under the prefixes {shown}; save one of them alone")
    prefix = "" if len(prefixes) != 1 else prefixes.pop()
    renamed = {old: new.removeprefix(prefix) for old, new in plain.items() if new.startswith(prefix)}
    inner = next((part for part in _INNER if any(part in name for name in names)), "")
    return renamed, prefix or inner


def _without_inner(name: str) -> str:
    for part in _INNER:
        name = name.replace(part, "")
    return name


def _prefix(name: str, modules: Sequence[str]) -> str | None:
    """What stands before the first part of the name that is a module's; None if there is no such part."""
    parts = name.split(".")
    at = next((place for place, part in enumerate(parts) if part in modules), None)
    return None if at is None else "".join(f"{part}." for part in parts[:at])
