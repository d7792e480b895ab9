"""The names of VQAv2's files: the defaults of a VQA task and of its reader."""

from typing import Literal

ANSWER_LIST = "answer_list.json"
GROUND_TRUTH: dict[Literal["train", "val", "test"], str] = {
    "train": "v2_mscoco_train2014_annotations.json",
    "val": "v2_mscoco_val2014_annotations.json",
    "test": "v2_mscoco_test2015_annotations.json",  # VQAv2's own is not public; generated data have one
}
PUBLIC: tuple[Literal["train", "val", "test"], ...] = ("train", "val")  # splits whose answers are public
