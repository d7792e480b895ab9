"""Images/s of a step of pre-training and of a step of retrieval finetuning, in float32 and in bf16 autocast, the latter
also with gradient checkpointing. For comparison, transformers' forward and backward pass in bf16.
"""

import functools
from collections.abc import Callable, Iterator, Mapping

import torch
from gpu_setup import Record, Setup
from gpu_timing import forget_peak, peak_bytes
from training_step import Step, our_step, random_batch, seconds_of, transformers_pass

from blipbench.device import make_runtime

Make = Callable[..., Step]  # of a kind of step, a batch, a precision and a model


def measure(setup: Setup) -> Iterator[Record]:
    yield from measure_ways(
        setup,
        {
            "transformers bf16, forward and backward": functools.partial(transformers_pass, precision="bf16"),
            "fp32": functools.partial(our_step, precision="fp32"),
            "bf16": functools.partial(our_step, precision="bf16"),
            "bf16, gradient checkpointing": functools.partial(our_step, precision="bf16", gradient_checkpointing=True),
        },
    )


def measure_compiled(setup: Setup) -> Iterator[Record]:
    """With torch.compile, which takes minutes."""
    yield from measure_ways(setup, {"bf16, compiled": functools.partial(our_step, precision="bf16", compiled=True)})


def measure_ways(setup: Setup, ways: Mapping[str, Make]) -> Iterator[Record]:
    runtime = make_runtime(setup.device, "fp32")
    pairs, model = setup.sizes.pairs, setup.sizes.model
    for kind in ("retrieval", "pretrain"):
        batch = random_batch(kind, pairs, torch.device(setup.device), model)
        for name, make in ways.items():
            forget_peak(runtime)
            rate = pairs / seconds_of(make(kind, batch, model=model), batch.images.device, setup.sizes.rounds)
            peak = peak_bytes(runtime)
            yield Record(
                kind,
                (f"{kind}, {name}: {rate:.1f} images/s, peak memory {peak / 2**30:.1f} GiB",),
                {"way": name, "pairs": pairs, "images_per_second": rate, "peak_bytes": peak},
            )
