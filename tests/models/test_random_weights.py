"""Random weights: the official names, the sizes asked for, the same for the same seed."""

from pathlib import Path

import torch
import yaml

from blipbench.models.blip import BlipRetrieval
from blipbench.models.config import ModelConfig
from blipbench.models.random_weights import random_state_dict

TINY = ModelConfig.model_validate(yaml.safe_load((Path(__file__).parents[1] / "golden" / "tiny.yaml").read_text()))


def test_they_fill_a_retrieval_model_exactly() -> None:
    state = random_state_dict(TINY, seed=0)
    del state["temp"]
    BlipRetrieval(TINY).load_state_dict(state, strict=True)


def test_a_seed_fixes_them() -> None:
    one, again, other = (random_state_dict(TINY, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["itm_head.weight"], other["itm_head.weight"])


def test_match_logits_differ_by_units() -> None:
    state = random_state_dict(TINY, seed=0)
    logits = torch.randn(1000, TINY.text.width, generator=torch.Generator().manual_seed(0)) @ state["itm_head.weight"].T
    assert 1.0 < float(logits.std()) < 4.0
