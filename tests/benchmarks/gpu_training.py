"""Images/s of a pre-training step and of a retrieval finetuning step at base size on one GPU.

Measures float32 and bf16 autocast, the latter with and without torch.compile and gradient checkpointing, and for
comparison transformers' forward and backward pass in bf16.

python tests/benchmarks/gpu_training.py
python tests/benchmarks/gpu_training.py --device cpu --pairs 2 --rounds 1

Prints one line per measurement, with the peak GPU memory, and one line of JSON at the end.
"""

import argparse
import json
import platform

import torch
from training_step import Step, our_step, random_batch, seconds_of, transformers_pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    device = torch.device(given.device)
    on_gpu = device.type == "cuda"
    rows = []
    for kind in ("retrieval", "pretrain"):
        batch = random_batch(kind, given.pairs, device)
        makers = {
            "transformers bf16, forward and backward": lambda k, b: transformers_pass(k, b, "bf16"),
            "fp32": lambda k, b: our_step(k, b, "fp32"),
            "bf16": lambda k, b: our_step(k, b, "bf16"),
            "bf16, gradient checkpointing": lambda k, b: our_step(k, b, "bf16", gradient_checkpointing=True),
            "bf16, compiled": lambda k, b: our_step(k, b, "bf16", compiled=True),
            "bf16, compiled, gradient checkpointing": lambda k, b: our_step(
                k, b, "bf16", compiled=True, gradient_checkpointing=True
            ),
        }
        for name, make in makers.items():
            if on_gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            step: Step = make(kind, batch)
            rate = given.pairs / seconds_of(step, device, given.rounds)
            peak = torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else None
            rows.append({"step": kind, "way": name, "images_per_second": rate, "peak_gib": peak})
            print(
                f"{kind}, {name}: {rate:.1f} images/s" + (f", {peak:.1f} GiB" if peak is not None else ""), flush=True
            )
            del step
    card = torch.cuda.get_device_name(device) if on_gpu else platform.machine()
    print(json.dumps({"device": card, "torch": torch.__version__, "pairs": given.pairs, "rows": rows}))


if __name__ == "__main__":
    main()
