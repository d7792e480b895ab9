"""Every part runs, and its FLOPs are those that torch counts while it runs."""

import pytest
import torch
from goldens import Golden, relative_error
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from blipbench.config.models import load_model_config
from blipbench.device import make_runtime
from blipbench.errors import UsageError
from blipbench.inference import linear
from blipbench.profiling import encoders
from blipbench.profiling.models import Models
from blipbench.profiling.parts import PARTS, find_part
from blipbench.profiling.shapes import Shapes, lengths_of
from blipbench.profiling.work import Work

SHAPES = Shapes(image_size=48, batch=2, tokens=9.0, texts_per_image=6)
ESTIMATED = {  # FLOPs of the attention to a few earlier tokens are left out, and nodes of an answer are a mean
    "decode-step": 0.1,
    "caption": 0.1,
    "vqa-rank": 0.15,
    "train-retrieval": 0.05,  # ITC's products with the queues are left out
    "train-pretrain": 0.05,
}


def work_of(name: str, way: str = "fast", precision: str = "fp32") -> Work:
    models = Models(load_model_config(str(Golden.model)), None, SHAPES.image_size)
    return find_part(name).ways[way](models, make_runtime("cpu", precision, 100_000), SHAPES)


@pytest.mark.parametrize("name", [name for name in PARTS if name not in ("add-norm", "decode")])
def test_flops_are_those_that_torch_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch counts neither oneDNN's products nor a CPU's own attention, so both are turned off."""
    monkeypatch.setattr(linear, "onednn_works", lambda *_: False)
    monkeypatch.setattr(linear, "faster_way", lambda kind, dtype: "torch")
    monkeypatch.setattr(encoders, "one_context_is_faster", lambda _: True)  # torch would pad images of fewer tokens
    work = work_of(name)
    work.call()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work.call()
    assert counter.get_total_flops() == pytest.approx(work.flops, rel=ESTIMATED.get(name, 1e-9))


@pytest.mark.parametrize("name, way", [(name, way) for name, part in PARTS.items() for way in part.ways])
def test_every_part_runs_every_way_and_gives_finite_numbers(name: str, way: str) -> None:
    work = work_of(name, way)
    assert torch.isfinite(work.call().float()).all()
    assert work.items > 0
    assert work.moved > 0


@pytest.mark.parametrize("name", ["vit", "text-encoder", "itm"])
@pytest.mark.parametrize("way", ["plain", "transformers"])
def test_all_ways_compute_the_same(name: str, way: str) -> None:
    models = Models(load_model_config(str(Golden.model)), None, SHAPES.image_size)
    runtime, part = make_runtime("cpu", "fp32"), find_part(name)
    with torch.inference_mode():
        fast, other = (part.ways[how](models, runtime, SHAPES).call() for how in ("fast", way))
    assert relative_error(other, fast) < 1e-5


def test_the_bytes_of_two_parts_are_those_counted_by_hand() -> None:
    """The tiny model's ViT is 24 wide with 10 tokens an image; both parts are in float32."""
    mlp, norm = work_of("vit-mlp"), work_of("add-norm")
    weights = (24 * 96 + 96) + (96 * 24 + 24)
    assert mlp.moved == 4 * (weights + 2 * (2 * 10 * 24))  # two images, read and written
    tokens = int(lengths_of(SHAPES).sum())
    width = 32
    assert norm.moved == 4 * (2 * width + 3 * tokens * width)  # scale and shift; two sums read, one result written


def test_an_unknown_part_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"--part vti: there is no such part; did you mean vit"):
        find_part("vti")
