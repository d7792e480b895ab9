"""Runs of blipbench as processes of their own that need not import torch first: a server that did forks them.

For tests in which processes matter (ranks, kill -9) and the command line's start does not; `command_line.command` gives
the real one. Each process has one thread, as torchrun's have: the number of threads alone moves float32 scores.
"""

import multiprocessing
import os
import signal
import socket
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from command_line import blipbench

from blipbench.evaluation import journal

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["blipbench.evaluation.run", "blipbench.reporting.terminal"])
TIMEOUT = 600.0  # seconds; a busy machine may starve a child for minutes


class Ended(NamedTuple):
    """`exit_code` is minus the signal's number where there was one; `output` is stdout and stderr, lost in a kill."""

    exit_code: int
    output: str


def run_forked(arguments: list[str], ranks: int = 1, killed_at_part: tuple[str, int] | None = None) -> list[Ended]:
    """How each rank ended. `killed_at_part` (stage, n): each sample is journaled at once, and in the moment before the
    n-th part file of the stage gets its name the process is sent a kill -9."""
    started = []
    for of_rank in _torchrun_variables(ranks) if ranks > 1 else [{}]:
        ours, theirs = SERVER.Pipe(duplex=False)
        environment = {**os.environ, **of_rank}  # the server's is that of the moment when it started
        process = SERVER.Process(target=_run, args=(arguments, theirs, environment, killed_at_part))
        process.start()
        theirs.close()
        started.append((process, ours))
    ended = []
    for process, ours in started:
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
        output = ours.recv() if ours.poll() and process.exitcode in (0, 1, 2) else ""
        assert process.exitcode is not None, f"no end after {TIMEOUT} s: {arguments}"
        ended.append(Ended(process.exitcode, output))
    return ended


def _torchrun_variables(ranks: int) -> list[dict[str, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def _run(
    arguments: list[str],
    connection: Connection,
    environment: dict[str, str],
    killed_at_part: tuple[str, int] | None,
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    if killed_at_part is not None:
        _die_at_part(*killed_at_part)
    done = blipbench(*arguments)
    connection.send(done.output)
    sys.exit(done.exit_code)


def _die_at_part(stage: str, number: int) -> None:
    journal.FLUSH_SECONDS = 0
    named = 0

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal named
        if event == "os.rename" and Path(details[1]).parent.name == stage:
            named += 1
            if named == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
