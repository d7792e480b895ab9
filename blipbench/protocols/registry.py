"""One recipe per protocol: how its data are read, its model is loaded, its stages are built and its samples scored.

This table is where a protocol is plugged in; the loop (`evaluate.py`) and the run (`run.py`) know none by name.
"""

from blipbench.protocols.captioning.recipe import CAPTIONING
from blipbench.protocols.nlvr.recipe import NLVR
from blipbench.protocols.recipe import Recipe
from blipbench.protocols.retrieval.recipe import RETRIEVAL
from blipbench.protocols.vqa.recipe import VQA

RECIPES: dict[str, Recipe] = {"retrieval": RETRIEVAL, "captioning": CAPTIONING, "nlvr": NLVR, "vqa": VQA}
