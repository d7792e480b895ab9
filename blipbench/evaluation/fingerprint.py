"""The fingerprint of a run: everything that must be equal for the run to be resumed, saved in its folder as JSON.

In: the settings of this start, and those that the folder records. Out: an error that names the differences, if any.
"""

import json
from pathlib import Path
from typing import Any

from blipbench import __version__
from blipbench.errors import BlipbenchError, UsageError

_VERSION = "blipbench"


def with_version(settings: dict[str, Any]) -> dict[str, Any]:
    """The fingerprint of these settings: another version of blipbench may compute other numbers from them."""
    return {**settings, _VERSION: __version__}


def read_fingerprint(file: Path) -> dict[str, Any]:
    """Raises BlipbenchError if the file is damaged."""
    try:
        recorded = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BlipbenchError(f"{file} is damaged ({error}); start over with --fresh") from error
    if not isinstance(recorded, dict):
        raise BlipbenchError(f"{file} is damaged (it is not a JSON object); start over with --fresh")
    return recorded


def refuse_other(folder: Path, recorded: dict[str, Any], fingerprint: dict[str, Any]) -> None:
    """Raises UsageError if the folder's run was started with other settings."""
    differing = [
        key for key in sorted(recorded.keys() | fingerprint.keys()) if recorded.get(key) != fingerprint.get(key)
    ]
    if not differing:
        return
    details = "; ".join(f"{key} was {recorded.get(key)!r}, is {fingerprint.get(key)!r}" for key in differing)
    way_out = "use --out for another folder, or --fresh to start over"
    before = recorded.get(_VERSION)
    if differing == [_VERSION] and before is not None:
        way_out = f"resume it with blipbench {before}, {way_out}"
    raise UsageError(f"{folder} holds another run ({details}). The two cannot be mixed; {way_out}")
