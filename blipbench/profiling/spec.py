"""What to profile: a named set from configs/profile, with what the command line changes in it, validated once."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from blipbench.config.files import find_file, read_model, yaml_files
from blipbench.config.paths import search_path
from blipbench.profiling.parts import PARTS, find_part

Way = Literal["fast", "plain", "transformers"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Attention = Literal["flash", "efficient", "math", "cudnn"]


class ProfileSpec(BaseModel):
    """`None`: the default for the device or the model. `batch` are images per call, `seconds` bounds the rounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str = ""
    parts: Annotated[list[str], Field(min_length=1)]
    ways: Annotated[list[Way], Field(min_length=1)] = ["fast"]
    precision: Annotated[list[Precision], Field(min_length=1)] = ["fp32"]
    batch: list[Annotated[int, Field(gt=0, le=4096)]] | None = None
    image_size: Annotated[int, Field(gt=0, le=4096)] | None = None
    tokens: Annotated[float, Field(ge=3, le=128)] = 12.5
    texts_per_image: Annotated[int, Field(gt=0, le=100_000)] | None = None
    seconds: Annotated[float, Field(ge=0, le=86_400)] = 40.0
    attention: list[Attention] = []
    compiled: bool = False
    kernels: bool = False

    @field_validator("parts")
    @classmethod
    def _known(cls, parts: list[str]) -> list[str]:
        for part in parts:
            if part not in PARTS:
                find_part(part)
        return parts


def load_spec(name_or_path: str) -> ProfileSpec:
    """Raises UsageError if there is no such set, or its file has a mistake."""
    files = yaml_files(search_path(None, "configs", "profile"))
    path = find_file(name_or_path, "profile", files, "or use the path of a .yaml file")
    return read_model(path, ProfileSpec)


def spec_name(name_or_path: str) -> str:
    return Path(name_or_path).stem if name_or_path.endswith((".yaml", ".yml")) else name_or_path
