"""README and docs/ say what is true of the code: links, files, commands, options, fields, settings and columns.

Nothing is run: commands are resolved by click, names are compared with the types that the code validates by.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import click
import pyarrow as pa
import pytest
from pydantic import BaseModel

from blipbench.capfilt.result import CapfiltResult
from blipbench.capfilt.stages import FILTER_ROWS
from blipbench.cli.main import main
from blipbench.config.task import SourceSpec, Task
from blipbench.config.tasks import list_tasks, load_task
from blipbench.evaluation.result import Result
from blipbench.models.catalog import load_catalog
from blipbench.protocols.captioning.stages import CAPTION_ROWS
from blipbench.protocols.captioning.task import CaptioningSettings
from blipbench.protocols.nlvr.stages import REASON_ROWS
from blipbench.protocols.registry import PROTOCOLS
from blipbench.protocols.retrieval.stages import EMBED_ROWS, RERANK_ROWS
from blipbench.protocols.retrieval.task import RetrievalSettings
from blipbench.protocols.vqa.stages import ANSWER_ROWS
from blipbench.protocols.vqa.task import VqaSettings
from blipbench.training.spec import EvaluateSpec, TrainData, TrainSpec, load_train_spec

ROOT = Path(__file__).parents[1]
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples/own_data/README.md")
}
FOLDERS = ("blipbench", "tasks", "configs", "docs", "tests", "examples", "experiments", "leaderboards")

each_page = pytest.mark.parametrize("page", PAGES)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def inline_code(page: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", without_blocks(PAGES[page]))


def blocks(page: str, language: str = "") -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    return [content for of_block, content in found if of_block == language]


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings in links."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_column(page: str, heading: str, title: str) -> list[str]:
    """The names, in backticks, in the first column of the tables under a heading whose first column has that title."""
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGES[page], re.DOTALL | re.MULTILINE)
    tables = re.findall(rf"^\| {title} \|.*\n\|[-|]+\|\n((?:\|.*\n?)+)", section, re.MULTILINE)
    assert tables, f"{page}: no table of {title}s under {heading!r}"
    cells = [row.split(" | ")[0] for table in tables for row in table.splitlines()]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


# Links and files


@each_page
def test_every_relative_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(PAGES[page])):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


@each_page
def test_every_file_that_is_named_exists(page: str) -> None:
    for code in inline_code(page):
        if code.startswith(tuple(f"{folder}/" for folder in FOLDERS)) and " " not in code:
            assert list(ROOT.glob(code.rstrip("/"))), code


def test_readme_links_every_page() -> None:
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= set(
        re.findall(r"\]\((docs/[^)#]+)\)", PAGES["README.md"])
    )


# Commands


def command_lines(page: str) -> Iterator[list[str]]:
    """The arguments of every line of a block that starts blipbench, alone or by torchrun."""
    for block in blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["blipbench"] or words[:1] == ["torchrun"]:
                yield words[words.index("blipbench") + 1 :]


def mentioned_commands(page: str) -> Iterator[list[str]]:
    """The arguments of every command that the text or a table mentions, perhaps without all of them."""
    for code in inline_code(page):
        if code.startswith("blipbench "):
            yield shlex.split(code.translate({ord(mark): None for mark in "[]"}).replace("...", ""))[1:]


def resolve(words: list[str]) -> tuple[click.Command, dict[str, Any]]:
    """The command and its options and arguments as typed. Raises click's UsageError as the command itself would."""
    context = click.Context(main, info_name="blipbench")
    command: click.Command = main
    while isinstance(command, click.Group):
        _, words, _ = command.make_parser(context).parse_args(list(words))
        if not words:
            return command, {}
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    parsed, left, _ = command.make_parser(context).parse_args(list(words))
    assert not left, left
    given = {name: value for name, value in parsed.items() if isinstance(value, str | list | tuple)}
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice) and parameter.name in given:
            assert given[parameter.name] in parameter.type.choices
    return command, given


@each_page
def test_every_command_in_a_block_is_complete(page: str) -> None:
    for words in command_lines(page):
        command, given = resolve(words)
        missing = [p.name for p in command.params if p.required and not given.get(p.name or "")]
        assert not missing, (words, missing)


@each_page
def test_every_command_that_is_mentioned_exists(page: str) -> None:
    for words in mentioned_commands(page):
        resolve(words)


@each_page
def test_every_task_and_configuration_in_a_command_exists(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in [*command_lines(page), *mentioned_commands(page)]:
        command, given = resolve(words)
        for task in [*given.get("tasks", ()), *([given["task"]] if "task" in given else [])]:
            if not task.isupper():
                load_task(task, Path(given["tasks_dir"]) if "tasks_dir" in given else None)
        if command.name == "train" and not given.get("config", "CONFIG").isupper():
            load_train_spec(given["config"], given.get("changes", ()))


def all_options(command: click.Command) -> set[str]:
    own = {option for parameter in command.get_params(click.Context(command)) for option in parameter.opts}
    return own.union(*(all_options(inner) for inner in getattr(command, "commands", {}).values()))


@each_page
def test_every_option_that_is_mentioned_exists(page: str) -> None:
    known = all_options(main)
    for code in inline_code(page):
        if code.startswith("--"):
            assert code.split()[0].partition("=")[0] in known, code


@each_page
def test_every_make_target_exists(page: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"^make ([\w-]+)", "\n".join([*blocks(page), *inline_code(page)]), re.MULTILINE)
    assert set(named) <= targets


@each_page
def test_every_import_in_a_python_block_works(page: str) -> None:
    for block in blocks(page, "python"):
        compile(block, page, "exec")
        exec("\n".join(line for line in block.splitlines() if line.startswith(("import ", "from "))), {})


# Fields, settings, columns


def field_paths(record: type[BaseModel], known: frozenset[type[BaseModel]] = frozenset()) -> set[str]:
    """`a.b` for a record in a record, `a[].b` in a list, `a.<name>.b` in an object; a `known` one is `a` alone."""
    return {
        f"{name}{rest}" for name, field in record.model_fields.items() for rest in _of_type(field.annotation, known)
    }


def _of_type(annotation: Any, known: frozenset[type[BaseModel]]) -> set[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in known:
        return {f".{path}" for path in field_paths(annotation, known)}
    inner = get_args(annotation)
    if get_origin(annotation) is list:
        return {f"[]{path}" for path in _of_type(inner[0], known)}
    if get_origin(annotation) is dict and isinstance(inner[1], type) and issubclass(inner[1], BaseModel):
        return {f".<name>{path}" for path in _of_type(inner[1], known)}
    optional = [part for part in inner if isinstance(part, type) and issubclass(part, BaseModel)]
    return _of_type(optional[0], known) if optional else {""}


def records_in(record: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The types of the records in a record, however deep."""
    pending: list[Any] = [field.annotation for field in record.model_fields.values()]
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
            yield from records_in(annotation)
        pending += get_args(annotation)


def test_every_field_of_result_json_is_documented() -> None:
    assert set(first_column("docs/results.md", "result.json", "field")) == field_paths(Result)


def test_every_field_of_capfilts_result_is_documented() -> None:
    documented = set(first_column("docs/results.md", "The result of CapFilt", "field"))
    assert documented == field_paths(CapfiltResult, frozenset(records_in(Result)))


@pytest.mark.parametrize(
    "stage, rows",
    [
        ("embed", EMBED_ROWS),
        ("rerank", RERANK_ROWS),
        ("caption", CAPTION_ROWS),
        ("answer", ANSWER_ROWS),
        ("reason", REASON_ROWS),
        ("filter", FILTER_ROWS),
    ],
)
def test_every_column_of_the_samples_is_documented(stage: str, rows: pa.Schema) -> None:
    assert first_column("docs/results.md", stage, "column") == rows.names


@pytest.mark.parametrize(
    "heading, settings",
    [("Retrieval", RetrievalSettings), ("Captioning", CaptioningSettings), ("VQA", VqaSettings)],
)
def test_every_setting_of_a_protocol_is_documented(heading: str, settings: type[BaseModel]) -> None:
    assert set(first_column("docs/tasks.md", heading, "setting")) == settings.model_fields.keys()


@pytest.mark.parametrize(
    "page, heading, spec",
    [
        ("docs/own-data.md", "The task file", Task),
        ("docs/own-data.md", "sources", SourceSpec),
        ("docs/training.md", "Configuration", TrainSpec),
        ("docs/training.md", "data", TrainData),
        ("docs/training.md", "evaluate", EvaluateSpec),
    ],
)
def test_every_key_of_a_yaml_file_is_documented(page: str, heading: str, spec: type[BaseModel]) -> None:
    assert set(first_column(page, heading, "key")) == spec.model_fields.keys()


DATA_SPECS = [plugin.task_type.model_fields["data"].annotation for plugin in PROTOCOLS.values()]


def test_every_key_of_a_task_s_data_is_documented() -> None:
    keys = {key for spec in DATA_SPECS for key in spec.model_fields}
    assert set(first_column("docs/own-data.md", "data", "key")) == keys


def test_every_reader_is_documented() -> None:
    readers = {reader for spec in DATA_SPECS for reader in get_args(spec.model_fields["reader"].annotation)}
    assert set(first_column("docs/own-data.md", "Readers", "reader")) == readers


def test_every_official_checkpoint_is_documented() -> None:
    assert set(first_column("docs/tasks.md", "Checkpoints", "file")) == {entry.file for entry in load_catalog()}


def test_every_task_is_in_the_table_of_tasks() -> None:
    assert set(first_column("docs/tasks.md", "Tasks", "task")) == {task.name for task in list_tasks()}


def test_the_task_file_on_the_page_is_the_example() -> None:
    (shown,) = blocks("docs/own-data.md", "yaml")
    example = (ROOT / "examples" / "own_data" / "retrieval_mine.yaml").read_text()

    def keys(text: str) -> list[str]:
        return [kept for line in text.splitlines() if (kept := line.partition("#")[0].strip())]

    assert keys(shown) == keys(example)
