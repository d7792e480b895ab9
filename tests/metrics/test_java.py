"""Java's programs are run without a shell, and whatever goes wrong with them is said."""

import contextlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_java import Install, java_is

from blipbench.metrics.java import JavaError, Programs, ask_java, run_java

__all__ = ["java_is"]


def test_a_program_gets_its_input_and_gives_its_output(java_is: Install) -> None:
    java_is('echo "$@"; while read line; do echo "<$line>"; done')
    printed, failure = run_java(["-jar", "a b.jar"], name="It", stdin=b"one\ntwo\n", timeout=10)
    assert printed.endswith("-jar a b.jar\n<one>\n<two>\n")
    assert failure is None


def test_a_failure_is_told_by_the_exception_on_stderr(java_is: Install) -> None:
    java_is("echo starting >&2; echo 'Exception in thread main: OutOfMemory' >&2; echo '  at a.b(c)' >&2; exit 3")
    assert run_java([], name="It", timeout=10) == ("", "It failed (Exception in thread main: OutOfMemory)")


def test_without_java_the_way_out_is_named(java_is: Install) -> None:
    java_is(None)
    with pytest.raises(JavaError, match="Java was not found; install a Java runtime"):
        run_java([], name="It", timeout=10)


def test_a_program_that_hangs_is_ended(java_is: Install) -> None:
    sleep = shutil.which("sleep")
    java_is(f"exec {sleep} 60")
    with pytest.raises(JavaError, match="It was stopped after 0 s"):
        run_java([], name="It", timeout=0.2)
    with ask_java([], name="It", timeout=0.2) as ask, pytest.raises(JavaError, match="no answer for 0 s"):
        ask("a question")


def test_a_conversation_is_a_line_for_a_line(java_is: Install) -> None:
    java_is('while read line; do echo "<$line>"; echo more; done')
    with ask_java([], name="It", timeout=10) as ask:
        assert [ask("one"), ask(""), ask("zwölf")] == ["<one>", "more", "<zwölf>"]


def test_a_program_that_dies_in_a_conversation_says_why(java_is: Install) -> None:
    java_is("read line; echo 'Error: could not reserve memory' >&2; exit 1")
    with ask_java([], name="It", timeout=10) as ask, pytest.raises(JavaError, match="could not reserve memory"):
        ask("one")


def test_an_interrupt_kills_the_programs_that_other_threads_wait_for(java_is: Install) -> None:
    java_is(f"exec {shutil.which('sleep')} 60")
    began = time.monotonic()

    def converse(programs: Programs) -> str:
        with ask_java([], name="It", timeout=60, programs=programs) as ask:
            return ask("one")

    with ThreadPoolExecutor(2) as pool:
        with contextlib.suppress(KeyboardInterrupt), Programs() as programs:
            one = pool.submit(run_java, [], name="It", timeout=60, programs=programs)
            other = pool.submit(converse, programs)
            time.sleep(0.5)
            raise KeyboardInterrupt
        with pytest.raises(JavaError, match="stopped before it was finished"):
            other.result()
        assert one.result()[1] == "It failed (no error output)"
        with pytest.raises(JavaError, match="not started: the run was stopped"):
            run_java([], name="It", timeout=60, programs=programs)
    assert time.monotonic() - began < 30
