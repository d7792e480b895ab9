"""The one table of protocols.

A protocol is a folder beside this file and a line in `PROTOCOLS`. The loop (evaluation/loop.py), the run
(evaluation/run.py) and the reader of task definitions (config/tasks.py) know no protocol by name.
"""

import dataclasses
import pkgutil
from typing import TYPE_CHECKING

from blipbench.config.task import Task
from blipbench.protocols.captioning.task import CaptioningTask
from blipbench.protocols.nlvr.task import NlvrTask
from blipbench.protocols.retrieval.task import RetrievalTask
from blipbench.protocols.vqa.task import VqaTask

if TYPE_CHECKING:
    from blipbench.protocols.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Plugin:
    """The type of a protocol's task definitions, and where its recipe is.

    The recipe imports torch and the models. This takes seconds, and most commands do not need it.
    """

    task_type: type[Task]
    recipe_at: str  # "module:name"

    def recipe(self) -> "Recipe":
        found: Recipe = pkgutil.resolve_name(self.recipe_at)
        return found


PROTOCOLS: dict[str, Plugin] = {
    "retrieval": Plugin(RetrievalTask, "blipbench.protocols.retrieval.recipe:RETRIEVAL"),
    "captioning": Plugin(CaptioningTask, "blipbench.protocols.captioning.recipe:CAPTIONING"),
    "vqa": Plugin(VqaTask, "blipbench.protocols.vqa.recipe:VQA"),
    "nlvr": Plugin(NlvrTask, "blipbench.protocols.nlvr.recipe:NLVR"),
}
