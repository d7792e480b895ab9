"""Runs the Java programs of the caption metrics, without a shell.

Takes a program's arguments and input, and returns what it printed. Every problem (Java is missing; the JVM does not
start, dies or hangs) raises a JavaError that says what to do.
"""

import dataclasses
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from blipbench.errors import BlipbenchError

# UTF-8 and English digits in every locale: Java before 18 takes both from the locale.
_OPTIONS = ("-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US")


class JavaError(BlipbenchError):
    """Java is missing, or one of its programs failed."""


class Programs:
    """Java programs that other threads run. When the block ends, those that still run are killed.

    An interrupt in the main thread then neither waits hours for SPICE nor leaves it behind.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: list[subprocess.Popen[bytes]] = []
        self._over = False

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._over = True
            for process in self._started:
                process.kill()

    def start(self, arguments: Sequence[str], name: str, stderr: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Raises JavaError if Java is missing, or if the block has ended."""
        with self._lock:
            if self._over:
                raise JavaError(f"{name} was not started: the run was stopped")
            try:
                process = subprocess.Popen(
                    [_java(), *_OPTIONS, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
                )
            except OSError as error:
                raise JavaError(f"{name} could not be started: {error}; reinstall the Java runtime") from error
            self._started.append(process)
            return process


def run_java(
    arguments: Sequence[str], *, name: str, stdin: bytes = b"", timeout: float, programs: Programs | None = None
) -> tuple[str, str | None]:
    """Run a program. Returns its output, and why it failed (None if it succeeded).

    `name` is used in messages; `timeout` is in seconds. Raises JavaError if Java is missing or the program timed out.
    """
    with (programs or Programs()).start(arguments, name, subprocess.PIPE) as process:
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired as error:
            raise JavaError(f"{name} was stopped after {timeout:.0f} s without a result") from error
        finally:
            process.kill()  # does nothing to a program that has ended
    failure = f"{name} failed ({_main_line(stderr)})" if process.returncode else None
    return stdout.decode("utf-8", errors="replace"), failure


@contextmanager
def ask_java(
    arguments: Sequence[str], *, name: str, timeout: float, programs: Programs | None = None
) -> Iterator[Callable[[str], str]]:
    """Start a program that answers each line with a line; yield a function that sends a line and returns the answer.

    If the line is "", the function only reads one more answer. Raises JavaError if Java is missing, if the program dies
    or if an answer takes more than `timeout` seconds.
    """
    with tempfile.TemporaryFile() as stderr:
        process = (programs or Programs()).start(arguments, name, stderr)
        assert process.stdin is not None and process.stdout is not None  # both are pipes
        try:
            yield _Conversation(process, process.stdin, process.stdout, stderr, name, timeout)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            with suppress(BrokenPipeError):  # the program did not read all of its input
                process.stdin.close()


@dataclasses.dataclass(frozen=True)
class _Conversation:
    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]
    name: str
    timeout: float

    def __call__(self, line: str) -> str:
        timer = threading.Timer(self.timeout, self.process.kill)
        timer.start()
        try:
            if line:
                self.stdin.write(line.encode("utf-8", errors="replace") + b"\n")
                self.stdin.flush()
            answer = self.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            in_time = timer.is_alive()
            timer.cancel()
        if not answer:
            self.stderr.seek(0)
            reason = _main_line(self.stderr.read()) if in_time else f"no answer for {self.timeout:.0f} s"
            raise JavaError(f"{self.name} stopped before it was finished ({reason})")
        return answer.decode("utf-8", errors="replace").strip()


def _java() -> str:
    found = shutil.which("java")
    if found is None:
        raise JavaError("Java was not found; install a Java runtime (8 or later)")
    return found


def _main_line(stderr: bytes) -> str:
    """The most informative line: the first exception or error of a stack trace, or else the last line."""
    lines = [line.strip() for line in stderr.decode("utf-8", errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "Exception" in line or "Error" in line]
    return (telling or lines or ["no error output"])[-1 if not telling else 0][:300]
