"""Processes that see a /dev/shm of a given size, as in a container: a mount that only they see."""

import functools
import shlex
import subprocess


def with_shared_memory(size: str, command: list[str]) -> list[str]:
    """The command line that runs `command` with a /dev/shm of `size` (for example 1m)."""
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    return ["unshare", "--mount", "sh", "-c", f"{mount} && exec {shlex.join(command)}"]


@functools.cache
def can_mount() -> bool:
    """Whether this user may do so."""
    try:
        return subprocess.run(with_shared_memory("1m", ["true"]), capture_output=True).returncode == 0
    except OSError:
        return False
