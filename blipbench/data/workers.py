"""Worker processes and signals: a worker heeds its parent alone, and never outlives it.

A terminal sends Ctrl-C to the whole process group, and Slurm sends SIGTERM to every process of a job. Both are meant
for the parent, which may still need what its workers are making. It then ends them itself.

    with signals_for_parent():   start the processes
    heed_parent()                in each of them, first
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

# To hear SIGTERM from the parent alone needs sigwaitinfo, which macOS lacks.
_FOR_PARENT = {signal.SIGINT, signal.SIGTERM} if hasattr(signal, "sigwaitinfo") else {signal.SIGINT}


@contextlib.contextmanager
def signals_for_parent() -> Iterator[None]:
    """Processes started inside do not hear SIGINT and SIGTERM. Here, one that comes meanwhile is heard at the end."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def heed_parent() -> None:
    """In a worker: end when the parent sends SIGTERM (`Process.terminate`), and when the parent is gone."""
    parent = os.getppid()
    threading.Thread(target=_heed, args=(parent,), daemon=True).start()


def _heed(parent: int) -> None:
    while os.getppid() == parent:
        if signal.SIGTERM in _FOR_PARENT:
            heard = signal.sigtimedwait({signal.SIGTERM}, 5)
            if heard is not None and heard.si_pid == parent:
                break
        else:
            threading.Event().wait(5)
    os._exit(0)
