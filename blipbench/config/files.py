"""YAML configuration files: finds them by name, reads them, and validates them with a pydantic model.

Takes a name and the folders to search, or a path. Returns the validated model. Every problem in a file raises a
`UsageError` that names the file, the field, what was found and the closest valid name.
"""

import difflib
import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from blipbench.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)


def yaml_files(folders: Sequence[Path]) -> dict[str, Path]:
    """Maps names to files. If several folders have the same name, the first folder wins."""
    files: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.yaml")):
            files.setdefault(canonical(path.stem), path)
    return files


def find_file(name: str, kind: str, files: Mapping[str, Path], hint: str) -> Path:
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        if not (path := Path(name)).is_file():
            raise UsageError(f"{name}: there is no such {kind} file")
        return path
    if (path_of_name := files.get(canonical(name))) is not None:
        return path_of_name
    close = did_you_mean(canonical(name), files)
    raise UsageError(f"unknown {kind} {name!r}{close} (known: {', '.join(sorted(files))}; {hint})")


def read_model(path: Path, model: type[Model]) -> Model:
    return validate(path, load_yaml(path), model)


def load_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        where = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{path}{where}: malformed YAML: {error.problem or error.context}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: cannot be read: it is nested too deeply") from error
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or a date that does not exist
        raise UsageError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected 'key: value' lines, found {type(content).__name__}")
    return content


def validate(path: Path, content: dict[str, Any], model: type[Model]) -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UsageError("\n".join(f"{path}: {_explain(e, model)}" for e in error.errors())) from error


def _explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    *parents, last = error["loc"] or ("",)
    under = f" under {'.'.join(map(str, parents))}" if parents else ""
    if error["type"] == "extra_forbidden":
        known = fields_at(model, parents)
        close = did_you_mean(str(last), known) or f"; known: {', '.join(known)}"
        return f"unknown key {last!r}{under}{close}"
    if error["type"] == "missing":
        return f"missing key {last!r}{under}"
    field = ".".join(map(str, error["loc"])) or "the file"
    if error["type"] == "value_error":
        return f"{field}: {error['msg'].removeprefix('Value error, ')}"
    return f"{field}: {lower_first(error['msg'])}, found {error['input']!r}"


def fields_at(model: type[BaseModel], parents: Sequence[int | str]) -> list[str]:
    """The known keys of the mapping at `parents` inside `model`."""
    for parent in parents:
        field = model.model_fields.get(str(parent))
        if field is not None:  # None for an index into a list, whose items are this model
            model = next(_models_in(field.annotation), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)


def did_you_mean(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def canonical(name: str) -> str:
    return name.replace("-", "_")


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
