"""A file small enough to ship: half the bytes, nothing that only training needs, the same model."""

from pathlib import Path

import pytest
import torch
from goldens import GOLDEN
from make_checkpoint import make_checkpoint

from blipbench.config.models import load_model_config
from blipbench.errors import CheckpointError
from blipbench.models.checkpoint import load_checkpoint
from blipbench.models.checkpoint_files import read_tensors
from blipbench.models.slim import slim_checkpoint

CONFIG = load_model_config(str(GOLDEN / "tiny.yaml"))


@pytest.fixture
def slim(tmp_path: Path) -> Path:
    out = tmp_path / "small.safetensors"
    slim_checkpoint(str(GOLDEN / "tiny_pretrain.pth"), out, [CONFIG])
    return out


def test_weights_are_the_same_to_float16(slim: Path) -> None:
    before, after = load_checkpoint(str(GOLDEN / "tiny_pretrain.pth"), config=CONFIG), load_checkpoint(str(slim))
    assert after.state_dict.keys() == before.state_dict.keys()
    assert all(torch.equal(weight, before.state_dict[name].half().float()) for name, weight in after.state_dict.items())
    assert (after.config, after.num_parameters) == (before.config, before.num_parameters)


def test_momentum_copies_and_queues_are_gone_and_shared_weights_lie_there_once(slim: Path) -> None:
    names = read_tensors(slim).tensors.keys()
    assert not [name for name in names if "_m." in name or "queue" in name]
    assert slim.stat().st_size < 2.2 * load_checkpoint(str(slim)).num_parameters + 20_000  # names take the rest


def test_its_own_vocabulary_goes_along(slim: Path) -> None:
    assert slim.with_name("vocab.txt").read_bytes() == (GOLDEN / "vocab.txt").read_bytes()


def test_a_weight_beyond_float16_is_refused(tmp_path: Path) -> None:
    tiny = load_model_config("tiny")
    huge = make_checkpoint(tiny, tmp_path / "huge.pth", seed=0)
    content = torch.load(huge, weights_only=True)
    content["model"]["itm_head.weight"][0, 0] = 1e5
    torch.save(content, huge)
    with pytest.raises(CheckpointError, match=r"huge\.pth: itm_head\.weight has weights beyond float16's 65,504"):
        slim_checkpoint(str(huge), tmp_path / "out.safetensors", [tiny])
