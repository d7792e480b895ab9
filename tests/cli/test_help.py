"""The public surface: every command, its flags, and its help."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import click
import pytest
from command_line import blipbench

from blipbench.cli.help import HEADINGS, Command, heading_of
from blipbench.cli.main import main

FROZEN = Path(__file__).with_name("commands.json")


def commands(group: click.Group = main, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield prefix + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")


COMMANDS = dict(commands())


def flags_of(command: click.Command) -> list[str]:
    return sorted(name for parameter in command.params for name in parameter.opts)


def test_no_command_and_no_flag_is_added_renamed_or_removed_by_accident() -> None:
    """If a change is meant, run this file as a script and save what it prints as commands.json."""
    assert {name: flags_of(command) for name, command in COMMANDS.items()} == json.loads(FROZEN.read_text())


RUNS = ("runs/retrieval_shapes/shapes_base", "runs/caption_coco/model_base_caption_capfilt_large", "other_runs")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_two_examples_that_parse(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in RUNS:
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    done = blipbench(*name.split(), "--help")
    assert done.exit_code == 0
    examples = re.findall(r"^ *(blipbench .*)$", done.output.split("Examples:")[1], re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        parse(shlex.split(example)[1:])


def test_the_last_example_of_every_command_works_without_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # without Java, which takes seconds
    for name in ORDER:
        example = COMMANDS[name].epilog.splitlines()[-1]  # type: ignore[union-attr]
        arguments = [at for part in shlex.split(example)[1:] for at in (sorted(glob(part)) or [part])]
        done = blipbench(*arguments)
        assert done.exit_code == 0, f"{example}: {done.output}"
        if name == "data make shapes":
            shutil.copy("data/images/test/shapes_test_000000.jpg", "scene.jpg")


# Each needs only what those before it have made. `data prepare` downloads; `doctor` depends on the machine.
ORDER = (
    *("data make shapes", "data verify", "run", "score", "table", "list", "show", "caption", "ask", "match"),
    *("profile", "capfilt", "train", "ckpt inspect", "ckpt convert", "ckpt slim", "ckpt random"),
)


def test_every_command_has_an_example_that_is_tried() -> None:
    of_commands = {name for name, command in COMMANDS.items() if not isinstance(command, click.Group)}
    assert of_commands - set(ORDER) == {"data prepare", "doctor"}


def parse(arguments: list[str], command: click.Command = main) -> None:
    """Raises click's error where a command or a flag does not exist or a value is wrong."""
    if isinstance(command, click.Group):
        parse(arguments[1:], command.commands[arguments[0]])
    else:
        command.make_context(command.name, list(arguments))


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if not isinstance(command, click.Group)])
def test_options_stand_under_headings_and_say_what_they_do(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    for option in command.params:
        if isinstance(option, click.Option):
            assert heading_of(option) in HEADINGS, option.opts
            assert option.help, option.opts


def test_listing_tasks_does_not_import_torch() -> None:
    script = "import sys; from blipbench.cli.main import main; main(['list'], standalone_mode=False); "
    script += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


if __name__ == "__main__":
    print(json.dumps({name: flags_of(command) for name, command in COMMANDS.items()}, indent=1))
