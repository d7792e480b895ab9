"""Ctrl-C and SIGTERM in a command that can go on later: an end without a traceback, and the command that goes on."""

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from blipbench.evaluation.ranks import Ranks


@contextlib.contextmanager
def resumable(on_gpus: bool = False) -> "Iterator[Ranks]":
    """The ranks that torchrun started, inside; they part at the end. An interrupt ends the process with exit code 1.

    `on_gpus`: they exchange what lies on GPUs (see distributed.py).
    """
    from blipbench.evaluation import ranks as distributed

    signal.signal(signal.SIGTERM, _interrupt)
    ranks = distributed.join(on_gpus=on_gpus)
    try:
        yield ranks
    except KeyboardInterrupt:
        if ranks.is_main:
            click.echo(f"\nstopped; what is finished is kept. Go on with:\n  {_resume_command()}", err=True)
        os._exit(1)  # without waiting for ranks or decoding processes that the same Ctrl-C has ended
    finally:
        distributed.leave()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _resume_command() -> str:
    world_size = os.environ.get("WORLD_SIZE", "1")
    launcher = ["blipbench"] if world_size == "1" else ["torchrun", "--nproc-per-node", world_size, "-m", "blipbench"]
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--fresh", "--resume")]
    return shlex.join([*launcher, *arguments, "--resume"])
