"""What a command prints when something goes wrong, and its exit code. A user never sees a traceback without asking.

Errors that a user can act on are BlipbenchErrors: their message is printed, and their exit code is 1 or 2. Everything
else is an internal error (exit code 70, EX_SOFTWARE of sysexits.h). It is printed with what a report needs. The
traceback follows with `--debug` or BLIPBENCH_DEBUG=1.
"""

import errno
import os
import platform
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.core import ParameterSource

from blipbench import __version__
from blipbench.errors import BlipbenchError, SharedError

INTERNAL_ERROR = 70
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_MEMORY = ("you tried to allocate", "CUDA out of memory", "Storage size calculation overflowed")  # torch's words


@contextmanager
def explained(debug: bool) -> Iterator[None]:
    """Turn what is raised inside into a message on stderr and an exit code."""
    try:
        yield
        flush_stdout()
    except click.BadParameter as error:
        raise _naming_environment(error) from error
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BlipbenchError as error:
        if not isinstance(error, SharedError) or error.is_mine:
            _say(f"error{_of_rank()}: {error}")
        if debug:
            traceback.print_exc()
        raise SystemExit(error.exit_code) from error
    except BrokenPipeError as error:  # the reader of stdout has gone, as `head` does
        drop_stdout()
        raise SystemExit(1) from error
    except Exception as error:
        exit_code = _of_the_machine(error)
        if exit_code is None:
            exit_code = _internal(error)
        if debug:
            traceback.print_exc()
        raise SystemExit(exit_code) from error


def _naming_environment(error: click.BadParameter) -> click.BadParameter:
    """The error, with the environment variable that the value comes from, if any. click names only the flag."""
    context, name = error.ctx, error.param.name if error.param is not None else None
    if context is None or name is None or context.get_parameter_source(name) is not ParameterSource.ENVIRONMENT:
        return error
    variable = f"{context.auto_envvar_prefix}_{name.upper()}"
    return click.BadParameter(f"{error.message} (set by the environment variable {variable})", context, error.param)


def _of_the_machine(error: Exception) -> int | None:
    """Explain what is the machine's fault and not a bug: files, disks and memory. None if it is something else."""
    if isinstance(error, OSError) and error.filename is not None and error.errno is not None:
        _say(f"error{_of_rank()}: {str(error.filename)[:300]}: {error.strerror}")
        return 1
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        drop_stdout()
        _say("error: stdout cannot be written: no space is left. What the command saved is kept")
        return 1
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        _say(f"error{_of_rank()}: not enough memory; use smaller batches, fewer workers or a smaller model")
        return 1
    return None


def _internal(error: Exception) -> int:
    """Print what a report needs."""
    torch = sys.modules.get("torch")
    versions = [f"blipbench {__version__}", f"Python {platform.python_version()}"]
    versions += [f"torch {torch.__version__}"] if torch is not None else []
    reason = " ".join(str(error).split()) or "no message"
    _say(
        f"internal error{_of_rank()}: {type(error).__name__}: {reason[:500]}\n"
        f"  command:  {shlex.join(['blipbench', *sys.argv[1:]])}\n"
        f"  versions: {', '.join(versions)} on {platform.platform()}\n"
        "This is a bug in blipbench. Please report it to the project's issue tracker with the lines above."
    )
    _say("`blipbench --debug ...` or BLIPBENCH_DEBUG=1 shows where it happened.")
    return INTERNAL_ERROR


def _say(message: str) -> None:
    click.echo(message, err=True)


def _of_rank() -> str:
    rank = os.environ.get("RANK", "0")
    return "" if rank == "0" else f" on rank {rank}"


def flush_stdout() -> None:
    """Raises OSError if stdout cannot be written. A process that was started without one has None."""
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_stdout() -> None:
    """Python flushes stdout when it ends. What it still holds cannot be written, so it goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
