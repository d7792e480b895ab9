"""Images/s of a step of pre-training and of a step of retrieval finetuning, in float32 and in bf16 autocast, the latter
also with gradient checkpointing. For comparison, transformers' forward and backward pass in bf16.
"""

import functools
from collections.abc import Callable, Iterator, Mapping

import torch
from gpu_setup import Record, Setup
from gpu_timing import forget_peak, peak_bytes
from training_timing import config_of, seconds_of

from blipbench.device import make_runtime
from blipbench.profiling.training_steps import (
    Kind,
    Step,
    our_step,
    random_batch,
    transformers_pass,
)

Make = Callable[..., Step]  # of a kind of step, a model's sizes, a batch and a precision


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
    kinds: tuple[Kind, ...] = ("retrieval", "pretrain")
    for kind in kinds:
        config = config_of(kind, model)
        batch = random_batch(config, pairs, torch.device(setup.device))
        for name, make in ways.items():
            forget_peak(runtime)
            rate = pairs / seconds_of(make(kind, config, batch), batch.images.device, setup.sizes.rounds)
            peak = peak_bytes(runtime)
            yield Record(
                kind,
                (f"{kind}, {name}: {rate:.1f} images/s, peak memory {peak / 2**30:.1f} GiB",),
                {"way": name, "pairs": pairs, "images_per_second": rate, "peak_bytes": peak},
            )
