"""The parts of BLIP at base size, 384 px, as `blipbench profile` measures them, beside transformers' BLIP.

`make bench` runs these. Times are medians of at least 3 interleaved rounds. Shapes, dtype and threads are printed.
"""

import contextlib
from collections.abc import Iterator, Sequence

import pytest
import torch

from blipbench.config.models import load_model_config
from blipbench.device import make_runtime
from blipbench.profiling.models import Models
from blipbench.profiling.record import ModelSource, PartRecord, Profile
from blipbench.profiling.run import ProfileSettings, run_profile

pytestmark = pytest.mark.benchmark_suite

TEXTS = 400  # per image: COCO's protocol has about 1,400
BASELINE_TEXTS = 32
PER_LAYER = {"self-attention": 11, "cross-attention": 12, "text-mlp": 12, "add-norm": 35, "cross-keys-values": 1}


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(load_model_config("base"), None, image_size=384)


@contextlib.contextmanager
def quiet(stage: str, noun: str, total: int) -> Iterator[object]:
    yield lambda count: None


def measured(
    models: Models,
    parts: Sequence[str],
    way: str = "fast",
    precisions: Sequence[str] = ("fp32",),
    batch: int = 1,
    texts: int = TEXTS,
    seconds: float = 0.0,
) -> tuple[Profile, dict[tuple[str, str], PartRecord]]:
    settings = ProfileSettings("bench", parts, (way,), (batch,), 384, 12.5, texts, seconds)
    runtimes = [make_runtime("cpu", precision) for precision in precisions]
    profile, _ = run_profile(settings, models, runtimes, ModelSource(name="base", sha256=None), quiet)
    return profile, {(part.part, part.precision): part for part in profile.parts}


def test_itm_scoring(models: Models) -> None:
    ours, parts = measured(models, ["itm"], precisions=("fp32", "bf16"), seconds=15)
    theirs = measured(models, ["itm"], way="transformers", texts=BASELINE_TEXTS)[1]["itm", "fp32"]
    for (_, precision), part in parts.items():
        ratio = part.item_rate / theirs.item_rate
        share = part.flop_rate / ours.ceiling(precision).flops
        print(
            f"\nITM scoring, base, 384 px, {precision}, {TEXTS} texts per image (mean 12.5 tokens), "
            f"{torch.get_num_threads()} threads: {1e3 / part.item_rate:.2f} ms per pair, "
            f"{part.flop_rate / 1e9:.0f} GFLOP/s, {share:.2f} of peak; "
            f"transformers in fp32 {1e3 / theirs.item_rate:.1f} ms per pair: {ratio:.1f} times"
        )
        assert ratio >= {"fp32": 8, "bf16": 14}[precision]
    assert parts["itm", "fp32"].flop_rate / ours.ceiling("fp32").flops >= 0.7


def test_the_parts_explain_the_whole(models: Models) -> None:
    _, parts = measured(models, [*PER_LAYER, "itm"], texts=64, seconds=15)
    whole = parts["itm", "fp32"].median
    total = sum(count * parts[name, "fp32"].median for name, count in PER_LAYER.items())
    print(f"\nITM, base, fp32, 64 texts: {whole * 1e3:.1f} ms; the sum of its parts {total * 1e3:.1f} ms")
    assert total == pytest.approx(whole, rel=0.1)


def test_image_encoding(models: Models) -> None:
    ours, parts = measured(models, ["vit"], batch=4)
    part = parts["vit", "fp32"]
    theirs = measured(models, ["vit"], way="transformers", batch=4)[1]["vit", "fp32"]
    print(
        f"\nimage encoding, base, 384 px, fp32, {torch.get_num_threads()} threads: {1e3 / part.item_rate:.0f} ms per "
        f"image, {part.flop_rate / ours.ceiling('fp32').flops:.2f} of peak; transformers "
        f"{1e3 / theirs.item_rate:.0f} ms: {part.item_rate / theirs.item_rate:.1f} times"
    )
    assert part.item_rate >= theirs.item_rate
