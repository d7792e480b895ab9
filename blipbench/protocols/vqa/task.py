"""The definition of a question answering task: the fields of its YAML beyond those of every task."""

from typing import Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from blipbench.config.task import DataSpec, Spec, Split, Task


class VqaSettings(Spec):
    """Questions are cut at `max_tokens`.

    Mode `rank` takes the `k_test` answers of the answer list with the likeliest first token, and chooses the best of
    them. Mode `generate` writes an answer by beam search (`num_beams`; `max_length` and `min_length` in tokens, [DEC]
    included). With `attend_padding`, generation reads the states of padding tokens, as the reference does. The
    reference pads `padding_batch` consecutive questions to one length.
    """

    mode: Literal["rank", "generate"] = "rank"
    k_test: PositiveInt = 128
    max_tokens: PositiveInt = 35
    num_beams: PositiveInt = 3
    max_length: PositiveInt = 10
    min_length: PositiveInt = 1
    attend_padding: bool = False
    padding_batch: PositiveInt = 32

    @field_validator("attend_padding")
    @classmethod
    def _only_generation_attends_to_padding(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("mode") != "generate":
            raise ValueError("only mode 'generate' can attend to padding; 'rank' masks it, as the reference does")
        return value


class VqaData(DataSpec):
    """`answer_list` is the file of the answers to rank.

    `ground_truth` are official files of people's answers. If one is there, it replaces the answers of the annotation.
    The splits in `public` require answers.
    """

    reader: Literal["vqa"]
    answer_list: str = "answer_list.json"
    ground_truth: dict[Split, str] = Field(
        default={
            "train": "v2_mscoco_train2014_annotations.json",
            "val": "v2_mscoco_val2014_annotations.json",
            "test": "v2_mscoco_test2015_annotations.json",  # VQAv2's own is not public; generated data have one
        }
    )
    public: tuple[Split, ...] = ("train", "val")


class VqaTask(Task):
    protocol: Literal["vqa"]
    data: VqaData
    settings: VqaSettings = VqaSettings()
