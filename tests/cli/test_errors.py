"""What a command prints when something goes wrong: a message and an exit code, never a traceback unless asked."""

import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from command_line import blipbench, command, golden_arguments, result_of

from blipbench.cli.main import Program
from blipbench.errors import UsageError


@click.command()
@click.argument("problem")
def fail(problem: str) -> None:
    if problem == "usage":
        raise UsageError("--flag: wrong")
    if problem == "memory":
        raise MemoryError
    raise ZeroDivisionError(f"{problem} by zero")


def run(*arguments: str, **environment: str) -> Result:
    program = Program(commands=[fail], params=[click.Option(["--debug"], is_flag=True, envvar="BLIPBENCH_DEBUG")])
    return CliRunner().invoke(program, arguments, env=environment)


def test_what_is_unforeseen_is_an_internal_error_with_what_a_report_needs() -> None:
    done = run("fail", "division")
    assert done.exit_code == 70
    assert "internal error: ZeroDivisionError: division by zero" in done.stderr
    assert "command:" in done.stderr and "versions: blipbench " in done.stderr and "issue tracker" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    "arguments, environment",
    [(["--debug", "fail", "division"], {}), (["fail", "division"], {"BLIPBENCH_DEBUG": "1"})],
)
def test_the_traceback_is_shown_on_request(arguments: list[str], environment: dict[str, str]) -> None:
    done = run(*arguments, **environment)
    assert done.exit_code == 70 and "Traceback" in done.stderr and "in fail" in done.stderr


def test_errors_of_the_user_are_no_internal_errors() -> None:
    done = run("fail", "usage")
    assert (done.exit_code, done.stderr) == (2, "error: --flag: wrong\n")


def test_the_rank_that_failed_is_named() -> None:
    assert run("fail", "division", RANK="3").stderr.startswith("internal error on rank 3: ")


def test_too_little_memory_is_said_with_the_way_out() -> None:
    done = run("fail", "memory")
    assert done.exit_code == 1 and "not enough memory" in done.stderr


def test_a_reader_that_ends_early_ends_the_command_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "blipbench", "list"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_without_a_stdout_the_result_is_still_saved(tmp_path: Path) -> None:
    closed = shlex.join(command(golden_arguments(tmp_path, limit=3))) + " >&-"
    done = subprocess.run(closed, shell=True, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    assert result_of(tmp_path)["status"] == "complete"


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["table", "json"])
def test_a_full_disk_under_stdout_is_said_and_the_result_named(tmp_path: Path, more: list[str]) -> None:
    with open("/dev/full", "w") as full:
        arguments = [*golden_arguments(tmp_path, limit=3), *more]
        done = subprocess.run(command(arguments), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "error: stdout cannot be written (No space left on device); the result is saved in" in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert result_of(tmp_path)["status"] == "complete"


@pytest.mark.parametrize("arguments", [["list"], ["show", "vqa"], ["--help"]])
def test_a_full_disk_under_other_commands(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(arguments), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "stdout cannot be written" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["run", "train", "data make shapes"])
def test_an_out_that_is_a_file_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    (file := tmp_path / "a_file").touch()
    inputs = {"run": ["vqa_shapes"], "train": ["vqa_shapes"]}.get(name, [])
    for out in (file, file / "below"):
        done = blipbench(*name.split(), *inputs, "--out", out)
        assert done.exit_code == 2 and f"--out {out}: {file} is not a folder" in done.output


@pytest.mark.parametrize(
    "variable, value, command",
    [
        ("BLIPBENCH_RUN_SEED", "-5", ["run", "vqa_shapes"]),
        ("BLIPBENCH_CAPTION_PRECISION", "double", ["caption", "a.jpg", "--ckpt", "shapes_base"]),
        ("BLIPBENCH_DATA_MAKE_SHAPES_IMAGES", "many", ["data", "make", "shapes", "--out", "data"]),
        ("BLIPBENCH_DEBUG", "maybe", ["list"]),
        ("BLIPBENCH_TASKS", "/nowhere", ["list"]),
    ],
)
def test_a_wrong_environment_variable_is_named(
    variable: str, value: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    done = blipbench(*command)
    assert done.exit_code == 2 and variable in done.stderr and value in done.stderr


def test_a_wrong_flag_is_not_blamed_on_the_environment() -> None:
    done = blipbench("run", "vqa_shapes", "--seed", "-5")
    assert done.exit_code == 2 and "'--seed'" in done.stderr and "environment" not in done.stderr


@pytest.mark.parametrize("name", ["convert", "slim"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path: Path, name: str, suffix: str) -> None:
    done = subprocess.run(
        command(["ckpt", name, "shapes_base", str(tmp_path / f"out{suffix}")]),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),  # as a full disk
    )
    assert done.returncode == 1 and f"error: {tmp_path / f'out{suffix}'}: cannot be written" in done.stderr
    assert not list(tmp_path.iterdir())


NOT_UTF8 = os.fsdecode(b"caf\xe9")  # Latin 1


@pytest.mark.parametrize(
    "command",
    [
        ["match", "a.jpg", NOT_UTF8, "--ckpt", "shapes_base"],
        ["ask", "a.jpg", NOT_UTF8, "--ckpt", "shapes_vqa"],
        ["caption", "a.jpg", "--prompt", NOT_UTF8, "--ckpt", "shapes_base"],
        ["run", "vqa_shapes", "--out", NOT_UTF8],
        ["run", "vqa_shapes", "--data", NOT_UTF8],
        ["run", "vqa_shapes", "--ckpt", NOT_UTF8],
        ["ckpt", "inspect", NOT_UTF8],
    ],
)
def test_bytes_that_are_not_utf_8_are_refused(command: list[str]) -> None:
    done = blipbench(*command)
    assert done.exit_code == 2 and "is not valid UTF-8" in done.stderr


@pytest.mark.parametrize(
    "command, message",
    [
        (["run", "vqa_shapes", "--seed", "-5"], "'--seed': -5 is not in the range"),
        (["run", "vqa_shapes", "--limit", "0"], "'--limit': 0 is not in the range"),
        (
            ["run", "vqa_shapes", "--batch-tokens", "9" * 20],
            "'--batch-tokens': 99999999999999999999 is not in the range",
        ),
        (["run", "vqa_shapes", "--workers", "100000"], "'--workers': 100000 is not in the range"),
        (["run", "vqa_shapes", "--ckpt", ""], "'--ckpt': the name is empty"),
        (["run", "vqa_shapes", "--split", ""], "'--split': the name is empty"),
        (["run", "vqa_shapes", "--out", ""], "'--out': the name is empty"),
        (["train", "vqa_shapes", "--init", ""], "'--init': the name is empty"),
        (
            ["data", "make", "shapes", "--out", "new", "--images", "9" * 20],
            "'--images': 99999999999999999999 is not in",
        ),
        (["capfilt", "--data", "a", "--out", "b.json", "--top-p", "nan"], "'--top-p': nan is not a finite number"),
        (["capfilt", "--data", "a", "--out", "b.json", "--repetition-penalty", "inf"], "inf is not a finite number"),
    ],
)
def test_values_out_of_range_are_refused_before_any_work(command: list[str], message: str) -> None:
    done = blipbench(*command)
    assert done.exit_code == 2 and message in done.stderr


def test_a_data_folder_that_is_a_file_is_refused_before_a_download(tmp_path: Path) -> None:
    (file := tmp_path / "a_file").touch()
    done = blipbench("data", "prepare", "retrieval_coco", "--data", file)
    assert done.exit_code == 2 and f"--data {file}: {file} is not a folder" in done.stderr
