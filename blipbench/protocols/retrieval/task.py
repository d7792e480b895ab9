"""The definition of an image-text retrieval task: the fields of its YAML beyond those of every task."""

from typing import Literal

from pydantic import PositiveInt

from blipbench.config.task import CaptionData, Spec, Task


class RetrievalSettings(Spec):
    """ITM reranks `k_test` candidates a query; `rerank: none` ranks by ITC alone. Texts are cut at `max_tokens`."""

    k_test: PositiveInt
    max_tokens: PositiveInt = 35
    rerank: Literal["itm", "none"] = "itm"


class RetrievalData(CaptionData):
    reader: Literal["karpathy", "karpathy_splits", "coco_captions", "table", "msrvtt"]


class RetrievalTask(Task):
    protocol: Literal["retrieval"]
    data: RetrievalData
    settings: RetrievalSettings
