"""The shape of the package: rooms that a reader takes in at one sitting. What may import what is in pyproject.toml."""

from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "blipbench"


def test_the_root_holds_at_most_eight_modules() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 8


@pytest.mark.parametrize("folder", [PACKAGE, PACKAGE.parent / "tests"], ids=["package", "tests"])
def test_no_file_is_longer_than_400_lines(folder: Path) -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py")}
    assert {str(path): count for path, count in lines.items() if count > 400} == {}
