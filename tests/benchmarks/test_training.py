"""Images/s of one training step at base size on the CPU, beside transformers' forward and backward of what it has.

Pre-training at 224 px and retrieval finetuning at 384 px, 4 pairs a step, float32 and bf16 autocast. Our step has what
transformers' pass has not: momentum encoders, queues, drawn negatives, AdamW (see training_step.py).
"""

import pytest
import torch
from training_step import IMAGE_SIZE, Kind, our_step, random_batch, seconds_of, transformers_pass

pytestmark = pytest.mark.benchmark_suite

PAIRS, ROUNDS = 4, 3
CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["retrieval", "pretrain"])
def test_training_step(kind: Kind) -> None:
    batch = random_batch(kind, PAIRS, CPU)
    plain = seconds_of(transformers_pass(kind, batch, "fp32"), CPU, ROUNDS)
    ours = seconds_of(our_step(kind, batch, "fp32"), CPU, ROUNDS)
    bf16 = seconds_of(our_step(kind, batch, "bf16"), CPU, ROUNDS)
    print(
        f"\n{kind} step, base, {IMAGE_SIZE[kind]} px, {PAIRS} pairs, {torch.get_num_threads()} threads, images/s: "
        f"fp32 {PAIRS / ours:.2f}, bf16 {PAIRS / bf16:.2f}; transformers' forward and backward alone, fp32 "
        f"{PAIRS / plain:.2f}"
    )
    assert PAIRS / ours > 0.5 * PAIRS / plain  # momentum encoders and AdamW are no more work than the rest
