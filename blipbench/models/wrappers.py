"""Removes what training wrappers add to a state dict, so that a checkpoint saved from a wrapper loads as it is.

DistributedDataParallel names tensors "module.*", torch.compile "_orig_mod.*", Lightning "model.*" under "state_dict".
Everything else that a file holds beside the state dict is reported as an extra. A file that holds several state dicts
is refused: nothing in it says which one is meant.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from blipbench.errors import CheckpointError

# Keys under which a state dict is commonly saved. An average of the weights, such as "ema", is an extra.
NESTS = ("model", "state_dict", "model_state_dict", "module", "net", "network")
_DEEPEST = 4  # nests inside each other; a hostile file can hold a dict that contains itself
_INNER = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # put in the middle of names


def unnest(file: Path, content: Any) -> tuple[Any, list[str], list[str]]:
    """The state dict inside, the keys that led to it, and what lies beside it.

    Raises CheckpointError if there are several state dicts, or if they are nested too deeply.
    """
    path: list[str] = []
    extras: list[str] = []
    while isinstance(content, dict):
        keys = [key for key in NESTS if _leads_to_tensors(content.get(key))]
        if not keys:
            break
        if len(keys) > 1:
            found = " and ".join(map(repr, keys))
            raise CheckpointError(f"{file}: holds several state dicts, under {found}; save one of them alone")
        if len(path) == _DEEPEST:
            raise CheckpointError(
                f"{file}: its state dict is nested more than {_DEEPEST} keys deep ({' > '.join(path)}); "
                f"save {{'model': state_dict}}"
            )
        path.append(keys[0])
        extras += [_shown(other) for other in content if other != keys[0]]
        content = content[keys[0]]
    return content, path, extras


def unwrap_names(file: Path, names: Sequence[str], modules: Sequence[str]) -> tuple[dict[str, str], str]:
    """New names by old ones, and what was taken off the names ("" if nothing was).

    `modules` are the first parts of the names that a model may have. Names without the common prefix belong to
    something else, such as a loss, and are left out. Raises CheckpointError if the file holds several models under
    different prefixes, or two tensors that would have the same name.
    """
    plain = {name: _without_inner(name) for name in names}
    stored = {prefix: old for old, name in plain.items() if (prefix := _prefix(name, modules)) is not None}
    if len(stored) > 1:
        shown = ", ".join(repr(prefix) if prefix else "no prefix" for prefix in sorted(stored))
        raise CheckpointError(f"{file}: holds several models, under the prefixes {shown}; save one of them alone")
    prefix = next(iter(stored), "")
    renamed: dict[str, str] = {}
    taken: dict[str, str] = {}
    for old, name in plain.items():
        if not name.startswith(prefix):
            continue
        new = name.removeprefix(prefix)
        if new in taken:
            raise CheckpointError(
                f"{file}: holds {new!r} twice, as {taken[new]!r} and as {old!r}; save one of the two models alone"
            )
        taken[new], renamed[old] = old, new
    before = _prefix(stored.get(prefix, ""), modules) or ""
    inside = [part for part in _INNER if part not in before and any(part in old for old in renamed)]
    return renamed, ", ".join(filter(None, [before, *inside]))


def _leads_to_tensors(value: Any) -> bool:
    """Whether this is a state dict or has one under a usual key, rather than, say, the settings of a model."""
    if not isinstance(value, dict):
        return False
    return any(isinstance(inner, Tensor) for inner in value.values()) or any(
        isinstance(value.get(key), Mapping) for key in NESTS
    )


def _shown(key: object) -> str:
    """A key of any type as one line of text."""
    text = key if isinstance(key, str) and key.isprintable() else repr(key)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _without_inner(name: str) -> str:
    for part in _INNER:
        name = name.replace(part, "")
    return name


def _prefix(name: str, modules: Sequence[str]) -> str | None:
    """The text before the first part of the name that is a module's. None if there is no such part."""
    parts = name.split(".")
    at = next((place for place, part in enumerate(parts) if part in modules), None)
    return None if at is None else "".join(f"{part}." for part in parts[:at])
