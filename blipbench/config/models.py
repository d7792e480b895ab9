"""Model sizes by name: reads the YAML files of configs/models, and similar files, into a `ModelConfig`."""

from pathlib import Path

from blipbench.config.files import find_file, read_model, yaml_files
from blipbench.config.paths import search_path
from blipbench.models.config import ModelConfig


def load_model_config(name_or_path: str) -> ModelConfig:
    """The sizes with this name in configs/models, or from this YAML file. Raises UsageError."""
    return read_model(find_file(name_or_path, "model", _model_files(), "or use the path of a .yaml file"), ModelConfig)


def list_model_configs() -> list[ModelConfig]:
    """The sizes that come with blipbench, by name."""
    return [read_model(path, ModelConfig) for _, path in sorted(_model_files().items())]


def _model_files() -> dict[str, Path]:
    return yaml_files(search_path(None, "configs", "models"))
