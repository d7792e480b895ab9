"""The definition of an image-text retrieval task: what its YAML states beyond what every task does."""

from typing import Literal

from pydantic import PositiveInt

from blipbench.config.task import Spec, Task


class RetrievalSettings(Spec):
    """`k_test` candidates a query are reranked by ITM (`rerank: none` ranks by ITC alone); texts in tokens."""

    k_test: PositiveInt
    max_tokens: PositiveInt = 35
    rerank: Literal["itm", "none"] = "itm"


class RetrievalTask(Task):
    protocol: Literal["retrieval"]
    settings: RetrievalSettings
