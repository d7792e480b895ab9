"""The definition of a captioning task: the fields of its YAML beyond those of every task."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from blipbench.config.task import CaptionData, Spec, Split, Task


class CaptioningSettings(Spec):
    """How captions are written. Lengths are in tokens and include [DEC] and the prompt (see inference/search.py).

    Only method `nucleus` uses `top_p`, `top_k` and `seed`. Only method `beam` uses `num_beams` and `length_penalty`.
    """

    prompt: str = "a picture of "
    method: Literal["beam", "greedy", "nucleus"] = "beam"
    num_beams: PositiveInt = 3
    max_length: PositiveInt = 20
    min_length: PositiveInt = 5
    repetition_penalty: PositiveFloat = 1.0
    length_penalty: float = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    top_k: PositiveInt = 50
    seed: int = 0

    @model_validator(mode="after")
    def _lengths_leave_room(self) -> "CaptioningSettings":
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is more than max_length {self.max_length}")
        return self


class CaptioningData(CaptionData):
    """`references` are files of captions in COCO's own format. If one is there, it replaces the annotation's."""

    reader: Literal["karpathy", "karpathy_splits", "coco_captions", "table", "nocaps"]
    references: dict[Split, str] = Field(default={})


class CaptioningTask(Task):
    protocol: Literal["captioning"]
    data: CaptioningData
    settings: CaptioningSettings = CaptioningSettings()
