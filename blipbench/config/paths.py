"""Where the files that ship with blipbench lie: tasks/, configs/, leaderboards/published.json and small checkpoints.

An installed wheel carries the first in `blipbench/_data`; in a checkout they are folders beside the package. The
checkpoints of the shapes world, and the vocabulary they share, are in the package itself.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def data_root() -> Path:
    """The folder that holds tasks/, configs/ and leaderboards/."""
    packed = PACKAGE / "_data"
    return packed if packed.is_dir() else PACKAGE.parent


def data_file(*parts: str) -> Path:
    """The path of a file or folder that ships with blipbench, e.g. `data_file("configs", "models", "base.yaml")`."""
    return data_root().joinpath(*parts)


def search_path(user_dir: Path | None, *parts: str) -> tuple[Path, ...]:
    """The folders to look in, in order: the user's own, if there is one, then the one that ships under `parts`."""
    shipped = data_file(*parts)
    return (shipped,) if user_dir is None else (user_dir, shipped)


def bundled_checkpoints() -> dict[str, Path]:
    """The checkpoints that ship, by name, e.g. "shapes_base"."""
    return {file.stem: file for file in sorted((PACKAGE / "bundled").glob("*.safetensors"))}
