"""Writes files atomically: under a temporary name, flushed to disk, then renamed.

After a kill or with a full disk, the earlier file is unchanged.
"""

import contextlib
import errno
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from blipbench.errors import BlipbenchError

RESUME = "Free some space and add --resume, or use another --out"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_whole(path: Path, write: Callable[[Path], object], way_out: str = RESUME) -> None:
    """Call `write` on a temporary file beside `path` (hidden, same suffix), then rename it to `path`.

    Raises BlipbenchError if the file cannot be written. `way_out` ends the message.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    with undisturbed():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError, SafetensorError) as error:  # libraries wrap the system's error
            temporary.unlink(missing_ok=True)
            full = _errno(error) in _DISK_FULL or any(f"os error {number}" in str(error) for number in _DISK_FULL)
            reason = "no space is left" if full else (getattr(error, "strerror", None) or str(error))
            kept = "the earlier file is kept" if path.exists() else "everything finished before is kept"
            raise BlipbenchError(f"{path} could not be written: {reason}; {kept}. {way_out}") from error


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the block ends."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    heard: list[int] = []
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, frame: heard.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in heard[:1]:
            signal.raise_signal(number)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_bytes(path: Path, content: bytes, way_out: str = RESUME) -> None:
    """Write the bytes atomically."""
    write_whole(path, lambda temporary: temporary.write_bytes(content), way_out)


def write_text(path: Path, text: str) -> None:
    """Write the text atomically, in UTF-8."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _errno(error: BaseException) -> int | None:
    """The errno of the system error that caused a library's error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen.errno
        seen = seen.__cause__ or seen.__context__
    return None
