"""Machines without Java, or with one that misbehaves: PATH is a folder with a `java` of our own, or without any."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

Install = Callable[[str | None], None]


@pytest.fixture
def java_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes `java` a shell script of this body, or takes it away."""

    def install(body: str | None) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        if body is not None:
            (folder / "java").write_text(f"#!/bin/sh\n{body}\n")
            (folder / "java").chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", str(folder))

    return install
