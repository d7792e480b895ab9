"""Runs the Java programs that caption metrics are made of, without a shell, and says what to do where one fails.

In go a program's arguments and its input, out comes what it printed. Whatever goes wrong (no Java, a JVM that does not
start, one that dies or hangs) is a JavaError with the way out.
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

# UTF-8 and English digits whatever the machine's locale is: Java before 18 takes both from it.
_OPTIONS = ("-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US")


class JavaError(BlipbenchError):
    """Java is missing, or one of its programs failed."""


class Programs:
    """Java programs that other threads run while the block lasts: its end kills those that are still running.

    So an interrupt in the main thread does not wait hours for SPICE, nor leave it behind.
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
        """Raises JavaError where Java is missing, or the block is over."""
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
    """What the program printed, and why it failed (None if it ended well). `name` is for messages, `timeout` seconds.

    Raises JavaError where Java is missing or the program had to be ended.
    """
    with (programs or Programs()).start(arguments, name, subprocess.PIPE) as process:
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired as error:
            raise JavaError(f"{name} was ended after {timeout:.0f} s without a result") from error
        finally:
            process.kill()  # does nothing to a program that has ended
    failure = f"{name} failed ({_last_words(stderr)})" if process.returncode else None
    return stdout.decode("utf-8", errors="replace"), failure


@contextmanager
def ask_java(
    arguments: Sequence[str], *, name: str, timeout: float, programs: Programs | None = None
) -> Iterator[Callable[[str], str]]:
    """A program that answers a line with a line: the function sends one, and "" only reads one more.

    Raises JavaError where Java is missing, or the program dies or takes more than `timeout` seconds for an answer.
    """
    with tempfile.TemporaryFile() as complaints:
        process = (programs or Programs()).start(arguments, name, complaints)
        assert process.stdin is not None and process.stdout is not None  # pipes were asked for
        try:
            yield _Conversation(process, process.stdin, process.stdout, complaints, name, timeout)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            with suppress(BrokenPipeError):  # what it had not read yet
                process.stdin.close()


@dataclasses.dataclass(frozen=True)
class _Conversation:
    process: subprocess.Popen[bytes]
    to: IO[bytes]
    of: IO[bytes]
    complaints: IO[bytes]
    name: str
    timeout: float

    def __call__(self, line: str) -> str:
        timer = threading.Timer(self.timeout, self.process.kill)
        timer.start()
        try:
            if line:
                self.to.write(line.encode("utf-8", errors="replace") + b"\n")
                self.to.flush()
            answer = self.of.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            in_time = timer.is_alive()
            timer.cancel()
        if not answer:
            self.complaints.seek(0)
            last = _last_words(self.complaints.read()) if in_time else f"no answer for {self.timeout:.0f} s"
            raise JavaError(f"{self.name} ended before it was through ({last})")
        return answer.decode("utf-8", errors="replace").strip()


def _java() -> str:
    found = shutil.which("java")
    if found is None:
        raise JavaError("Java was not found; install a Java runtime (8 or later)")
    return found


def _last_words(stderr: bytes) -> str:
    """The line that says most: a stack trace's exception, else the last one."""
    lines = [line.strip() for line in stderr.decode("utf-8", errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "Exception" in line or "Error" in line]
    return (telling or lines or ["it said nothing"])[-1 if not telling else 0][:300]
