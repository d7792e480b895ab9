"""`blipbench data prepare`: lists the files that a task needs, downloads those that are free, and checks their hashes.

Takes the task's list of sources and the data folder, and returns a PrepareReport with one line for each source. A file
that exists is never downloaded again or overwritten. If no hash is published, the sha256 of the first file is kept
beside it (`<file>.sha256`, in the format of sha256sum), so that a later change is noticed.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from blipbench.config.task import SourceSpec
from blipbench.data.records import path_inside
from blipbench.download import fetch, hash_file
from blipbench.errors import DataError, UsageError

Progress = Callable[[str, int, int | None], None]  # (file, bytes so far, bytes in all or None)
_State: TypeAlias = Literal["ok", "missing", "wrong"]


@dataclasses.dataclass(frozen=True)
class PrepareReport:
    """One line for each source. `missing` and `wrong` are the files that are absent, or not what they should be."""

    lines: list[str]
    missing: list[str]
    wrong: list[str]

    @property
    def ok(self) -> bool:
        return not self.missing and not self.wrong


def prepare(
    task_name: str, sources: Sequence[SourceSpec], root: Path, progress: Progress | None = None
) -> PrepareReport:
    """Download to `root` what the task needs and what is freely available.

    What cannot be downloaded (no network, a refusal, a form to fill in) is listed with its address and its place.
    Raises UsageError if a source's `file` leaves the data folder.
    """
    missing: list[str] = []
    wrong: list[str] = []
    lines = [f"{task_name}: data folder {root}"]
    for source in sources:
        try:
            place = root / path_inside(source.file)
        except ValueError as error:
            raise UsageError(f"{task_name}: sources: file {source.file!r} {error}") from None
        try:
            found = _find(place, root)
            if source.file.endswith("/") or (found is not None and found.is_dir()):
                state, remark = _settle_folder(source, place, found, root)
            else:
                state, remark = _settle_file(source, place, found, progress)
        except OSError as error:
            state, remark = "wrong", f"{error.filename or place} cannot be read: {error.strerror}"
        unneeded = state == "missing" and source.optional
        lines.append(f"{'optional' if unneeded else state:<10}{source.file}: {remark}")
        if state != "ok" and not unneeded:
            (missing if state == "missing" else wrong).append(source.file)
    return PrepareReport(lines, missing, wrong)


def _find(place: Path, root: Path) -> Path | None:
    relative = place.relative_to(root)
    places = (place, root / "annotations" / relative, root / "images" / relative)
    return next((candidate for candidate in places if os.path.exists(candidate)), None)


def _settle_folder(source: SourceSpec, place: Path, found: Path | None, root: Path) -> tuple[_State, str]:
    if found is not None and found.is_dir() and any(found.iterdir()):
        return "ok", f"the folder is at {found}"
    archive = root / Path(urlsplit(source.url or "").path).name
    if archive.is_file():
        state, remark = _check_hash(source, archive)
        if state == "ok":
            return "missing", f"{remark}; unpack it so that its images lie in {place}"
        return state, remark
    return "missing", f"{_get(source)} and unpack it so that its images lie in {place}{_remarks(source)}"


def _settle_file(source: SourceSpec, place: Path, found: Path | None, progress: Progress | None) -> tuple[_State, str]:
    if found is None:
        if not source.auto or source.url is None:
            return "missing", f"{_get(source)} and put it at {place}{_remarks(source)}"

        def report(done: int, total: int | None) -> None:
            if progress is not None:
                progress(source.file, done, total)

        try:
            found = fetch(source.url, place, sha256=source.sha256, md5=source.md5, progress=report)
        except DataError as error:  # it names the address and the place
            return "missing", str(error)
    if not found.stat().st_size:
        return "wrong", f"{found} is an empty file; remove it and run this again"
    return _check_hash(source, found)


def _get(source: SourceSpec) -> str:
    return f"get {source.url}" if source.url else "get it from its publisher"


def _remarks(source: SourceSpec) -> str:
    hashes = [f"{kind} {value}" for kind, value in (("md5", source.md5), ("sha256", source.sha256)) if value]
    remarks = "; ".join(filter(None, [source.note, *hashes]))
    return f" ({remarks})" if remarks else ""


def _check_hash(source: SourceSpec, found: Path) -> tuple[_State, str]:
    for algorithm, published in (("sha256", source.sha256), ("md5", source.md5)):
        if published is None:
            continue
        actual = hash_file(found, algorithm)
        if actual == published.lower():
            return "ok", f"{found} has the published {algorithm}"
        return "wrong", (
            f"the {algorithm} of {found} is {actual}, but {published} is published: it is another version or damaged. "
            "It was kept as it is; move it away and run this again for the published one"
        )
    return _check_recorded(found)


def _check_recorded(found: Path) -> tuple[_State, str]:
    actual = hash_file(found)
    record = found.with_name(found.name + ".sha256")
    if not record.exists():
        try:
            record.write_text(f"{actual}  {found.name}\n")
        except OSError as error:  # data folders shared by many users are often read-only
            return "ok", f"{found}, sha256 {actual}; no hash is published, and none can be kept ({error.strerror})"
        return "ok", f"{found}, sha256 {actual}; no hash is published, this one is kept in {record.name}"
    words = record.read_text(errors="replace").split()
    if words and words[0] == actual:
        return "ok", f"{found} has the sha256 kept in {record.name}"
    return "wrong", (
        f"the sha256 of {found} is {actual}, but {record.name} has {words[0] if words else 'nothing'}: one of them "
        f"changed. Both were kept; if the file is right, delete {record}"
    )
