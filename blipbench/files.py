"""A file is whole or absent: written under a temporary name, flushed to the disk, then renamed.

A kill or a full disk leaves what was there before.
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

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write` a temporary file beside `path`, which then takes its place; its name begins with a dot and ends alike.

    Raises BlipbenchError where it cannot.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    with undisturbed():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError, SafetensorError) as error:  # the libraries wrap the system's error
            temporary.unlink(missing_ok=True)
            full = _errno(error) in _DISK_FULL or any(f"os error {number}" in str(error) for number in _DISK_FULL)
            reason = "no space is left for it" if full else (getattr(error, "strerror", None) or str(error))
            kept = "the earlier one is kept" if path.exists() else "what was finished before is kept"
            raise BlipbenchError(
                f"{path} could not be written: {reason}; {kept}. Make room and add --resume, or choose another --out"
            ) from error


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM that come inside take effect at its end."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return
    heard: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
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


def write_bytes(path: Path, content: bytes) -> None:
    """The file is whole or absent."""
    write_whole(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: Path, text: str) -> None:
    """UTF-8; the file is whole or absent."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _errno(error: BaseException) -> int | None:
    """Of the system's error behind a library's."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen.errno
        seen = seen.__cause__ or seen.__context__
    return None
