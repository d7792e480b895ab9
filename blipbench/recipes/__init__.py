"""One recipe per protocol: how its data are read, its model is loaded, its stages are built and its samples scored.

This table is where a protocol is plugged in; the loop (`evaluate.py`) and the run (`run.py`) know none by name.
"""

from blipbench.recipes.captioning import CAPTIONING
from blipbench.recipes.nlvr import NLVR
from blipbench.recipes.recipe import Recipe
from blipbench.recipes.retrieval import RETRIEVAL
from blipbench.recipes.vqa import VQA

RECIPES: dict[str, Recipe] = {"retrieval": RETRIEVAL, "captioning": CAPTIONING, "nlvr": NLVR, "vqa": VQA}
