"""Ctrl-C and SIGTERM in any command: an end without a traceback, and the command that resumes the work.

SIGTERM is what Slurm, `docker stop` and Kubernetes send. Both signals become a KeyboardInterrupt, so that what is
computed is flushed on the way out.
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from blipbench.training.interrupt import Interruption

if TYPE_CHECKING:
    from blipbench.evaluation.ranks import Ranks


@contextlib.contextmanager
def stoppable(group: click.Group, context: click.Context) -> Iterator[None]:
    """Inside, a command of the group runs. A signal ends the process with a message and exit code 1."""
    with Interruption():
        try:
            yield
        except KeyboardInterrupt:
            _say_how_it_ended(group, context)
            # Without waiting for ranks, threads or worker processes: the same signal has ended or will end them.
            os._exit(1)


def _say_how_it_ended(group: click.Group, context: click.Context) -> None:
    sys.stdout.flush()
    if os.environ.get("RANK", "0") != "0":
        return
    command = group.get_command(context, context.invoked_subcommand or "")
    if command is not None and any(parameter.name == "resume" for parameter in command.params):
        nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
        where = f", on each of the {nodes} nodes" if nodes > 1 else ""
        resume = resume_command(sys.argv[1:], os.environ)
        click.echo(f"\nstopped; what is finished is kept. Resume it with{where}:\n  {resume}", err=True)
    else:
        click.echo("\nstopped; run the same command again to finish it", err=True)


def resume_command(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The command line, ready for a shell, that resumes the one with these arguments; as torchrun started it, if so."""
    kept = [argument for argument in arguments if argument not in ("--fresh", "--resume")]
    return shlex.join([*_launcher(environment), *kept, "--resume"])


def _launcher(environment: Mapping[str, str]) -> list[str]:
    """torchrun tells its processes the number of nodes (groups) and of the processes on a node."""
    if environment.get("WORLD_SIZE", "1") == "1":
        return ["blipbench"]
    nodes = environment.get("GROUP_WORLD_SIZE", "1")
    launcher = ["torchrun", "--nproc-per-node", environment.get("LOCAL_WORLD_SIZE", environment["WORLD_SIZE"])]
    if nodes == "1":
        launcher += ["--standalone"]
    else:
        launcher += ["--nnodes", nodes, "--rdzv-backend", "c10d", "--rdzv-endpoint", environment["MASTER_ADDR"]]
    return [*launcher, "-m", "blipbench"]


@contextlib.contextmanager
def joined(on_gpus: bool = False) -> "Iterator[Ranks]":
    """The ranks that torchrun started, inside; they part at the end.

    `on_gpus`: they exchange what lies on GPUs (see evaluation/ranks.py).
    """
    from blipbench.evaluation import ranks as distributed

    ranks = distributed.join(on_gpus=on_gpus)
    try:
        yield ranks
    except KeyboardInterrupt:
        raise  # without parting, which would wait for ranks that the same signal has ended
    except BaseException:
        distributed.leave()
        raise
    distributed.leave()
