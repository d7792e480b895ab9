"""Images/s of one training step at base size on the CPU, compared with transformers' forward and backward pass.

Pre-training at 224 px and retrieval finetuning at 384 px, 4 pairs per step, in float32 and, if the processor supports
it, in bf16 autocast. Our step includes parts that transformers does not: momentum encoders, queues, sampled negatives
and AdamW (see blipbench/profiling/training_steps.py). A second comparison is our step without sharing an image's keys
and values between ITM's pairs.
"""

import pytest
import torch
from training_timing import config_of, seconds_of

from blipbench.doctor import cpu_has_bf16
from blipbench.profiling.training_steps import Kind, our_step, random_batch, transformers_pass

pytestmark = pytest.mark.benchmark_suite

PAIRS, ROUNDS = 4, 3
CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["retrieval", "pretrain"])
def test_training_step(kind: Kind) -> None:
    config = config_of(kind, "base")
    batch = random_batch(config, PAIRS, CPU)
    plain = PAIRS / seconds_of(transformers_pass(kind, config, batch, "fp32"), CPU, ROUNDS)
    ours = PAIRS / seconds_of(our_step(kind, config, batch, "fp32"), CPU, ROUNDS)
    copied = PAIRS / seconds_of(our_step(kind, config, batch, "fp32", shared_contexts=False), CPU, ROUNDS)
    # Without bf16 products in the processor they are emulated: a run did not finish in 9 minutes.
    bf16 = PAIRS / seconds_of(our_step(kind, config, batch, "bf16"), CPU, ROUNDS) if cpu_has_bf16() else None
    print(
        f"\n{kind} step, base, {config.vision.image_size} px, {PAIRS} pairs, {torch.get_num_threads()} threads, "
        f"images/s: "
        f"fp32 {ours:.3f}, bf16 {f'{bf16:.3f}' if bf16 else 'not on this processor'}; without shared keys and values, "
        f"fp32 {copied:.3f}, ratio {ours / copied:.2f}; transformers' forward and backward alone, fp32 {plain:.3f}"
    )
    assert ours > 0.5 * plain  # momentum encoders and AdamW take no longer than the rest
    assert ours > copied
