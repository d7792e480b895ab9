"""Task definitions: finds YAML files by name and reads them into validated, immutable values.

Takes a name (`retrieval_coco`) or the path of a YAML file. Returns a `Task` of the right protocol. Every problem in a
file raises a `UsageError` that names the file, the field and what was found.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from blipbench.config.files import (
    canonical,
    did_you_mean,
    find_file,
    load_yaml,
    lower_first,
    validate,
    yaml_files,
)
from blipbench.config.paths import search_path
from blipbench.config.task import SettingValue, Task
from blipbench.errors import UsageError
from blipbench.protocols.registry import PROTOCOLS


def load_task(name: str, tasks_dir: Path | None = None) -> Task:
    """The task called `name` (- and _ are equivalent), or the task in the file `name` if that is a path to a .yaml.

    `tasks_dir`, or the environment variable BLIPBENCH_TASKS, is searched before blipbench's own tasks. Raises
    UsageError.
    """
    return _read_task(find_file(name, "task", _task_files(tasks_dir), "`blipbench list` shows all tasks"))


def list_tasks(tasks_dir: Path | None = None) -> list[Task]:
    """All tasks by name. A task in the user's folder replaces blipbench's task of the same name."""
    return [_read_task(path) for _, path in sorted(_task_files(tasks_dir).items())]


def override_settings(task: Task, changes: Mapping[str, SettingValue | None]) -> Task:
    """The task with some settings replaced by flags. None leaves a setting unchanged.

    Raises UsageError, which names the flag (`k_test` is --k-test), also if the task's protocol has no such setting.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    for key in given:
        if key not in type(task.settings).model_fields:
            raise UsageError(f"{_flag(key)}: {task.name} ({task.protocol}) has no such setting")
    try:
        settings = type(task.settings).model_validate({**task.settings.model_dump(), **given})
    except ValidationError as error:
        problems = [f"{_flag(str(e['loc'][0]))} {e['input']}: {lower_first(e['msg'])}" for e in error.errors()]
        raise UsageError("\n".join(problems)) from error
    return task.model_copy(update={"settings": settings})


def _task_files(tasks_dir: Path | None) -> dict[str, Path]:
    named_by = "--tasks-dir" if tasks_dir else "BLIPBENCH_TASKS"
    if tasks_dir is None and (from_environment := os.environ.get("BLIPBENCH_TASKS")):
        tasks_dir = Path(from_environment).expanduser()
    if tasks_dir is not None and not tasks_dir.is_dir():
        raise UsageError(f"{named_by} {tasks_dir}: there is no such folder; use one with task definitions (*.yaml)")
    return yaml_files(search_path(tasks_dir, "tasks"))


def _read_task(path: Path) -> Task:
    content = load_yaml(path)
    protocol = content.get("protocol")
    if not isinstance(protocol, str) or protocol not in PROTOCOLS:
        found = "missing key 'protocol'" if protocol is None else f"protocol: unknown {protocol!r}"
        close = did_you_mean(str(protocol), PROTOCOLS)
        raise UsageError(f"{path}: {found}{close} (known: {', '.join(PROTOCOLS)})")
    task = validate(path, content, PROTOCOLS[protocol].task_type)
    if canonical(task.name) != canonical(path.stem):
        # The name determines the run folder, so two files with the same name would mix up their results.
        raise UsageError(f"{path}: name: {task.name!r} must equal the file name, {path.stem!r}")
    return task


def _flag(setting: str) -> str:
    return "--" + setting.replace("_", "-")
