"""Paths of the files that come with blipbench: tasks/, configs/, leaderboards/published.json and small checkpoints.

In an installed wheel, tasks/, configs/ and leaderboards/ are in `blipbench/_data`; in a checkout they are beside the
package. The checkpoints of the shapes world and their vocabulary are in the package itself.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def data_root() -> Path:
    """The folder that contains tasks/, configs/ and leaderboards/."""
    packed = PACKAGE / "_data"
    return packed if packed.is_dir() else PACKAGE.parent


def data_file(*parts: str) -> Path:
    """The path of a file or folder of blipbench, e.g. `data_file("configs", "models", "base.yaml")`."""
    return data_root().joinpath(*parts)


def search_path(user_dir: Path | None, *parts: str) -> tuple[Path, ...]:
    """The folders to search, in order: the user's folder if there is one, then blipbench's folder `parts`."""
    shipped = data_file(*parts)
    return (shipped,) if user_dir is None else (user_dir, shipped)


def bundled_checkpoints() -> dict[str, Path]:
    """The checkpoints that come with blipbench, by name, e.g. "shapes_base"."""
    return {file.stem: file for file in sorted((PACKAGE / "bundled").glob("*.safetensors"))}
