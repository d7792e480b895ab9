"""What the command line does on a GPU: `doctor --verify` in every precision, a COCO retrieval run from files, profiles.

The run has generated JPEGs and texts with COCO's sizes, and a checkpoint with random weights.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coco_files import caption_lengths, write_coco
from gpu_setup import Record, Setup, last_lines, start_blipbench
from torch import Tensor, nn

from blipbench.config.models import load_model_config
from blipbench.data.images import decode_image, normalise
from blipbench.inference.packing import pad
from blipbench.models.blip import BlipRetrieval
from blipbench.models.conversion import save_checkpoint
from blipbench.models.random_weights import random_state_dict
from blipbench.models.tokenizer import BUNDLED_VOCAB, Tokenizer, load_tokenizer
from blipbench.profiling.record import read_profile

LAST_LINES, ERROR_LINES = 3, 15
CENTRED_ON = 64  # images, and four times as many texts


def verify(setup: Setup) -> Iterator[Record]:
    """All precisions at once, since only the results count here."""
    outputs = {precision: setup.folder / precision for precision in setup.sizes.precisions}
    started = {
        precision: start_blipbench(["doctor", "--verify", "--device", setup.device, "--precision", precision], output)
        for precision, output in outputs.items()
    }
    for precision, process in started.items():
        status = process.wait()
        output = last_lines(outputs[precision], 40)
        lines = (f"doctor --verify in {precision}: exit status {status}", *output[-LAST_LINES:])
        figures = {"precision": precision, "exit_status": status, "output": output}
        yield Record(f"doctor {precision}", lines, figures, ok=status == 0)


def measure(setup: Setup) -> Iterator[Record]:
    data, out, checkpoint = (setup.folder / name for name in ("coco", "runs", "random.pth"))
    start = time.perf_counter()
    texts = write_coco(data, setup.sizes.files, single_token_words(load_tokenizer()))
    seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in data.glob("val2014/*")) / setup.sizes.files
    yield Record(
        "files",
        (f"{setup.sizes.files:,} JPEGs of {size / 1024:.0f} KiB and {texts:,} texts made in {seconds:.1f} s",),
        {"images": setup.sizes.files, "texts": texts, "bytes_per_image": size, "seconds": seconds},
    )
    save_random_checkpoint(setup, sorted(data.glob("val2014/*"))[:CENTRED_ON], checkpoint)
    command = ["run", "retrieval_coco", "--ckpt", str(checkpoint), "--data", str(data), "--out", str(out), "--amp"]
    output = setup.folder / "output"
    start = time.perf_counter()
    device = ["--device", setup.device, "--k-test", str(setup.sizes.k_test)]
    status = start_blipbench([*command, *device], output).wait()
    seconds = time.perf_counter() - start
    result = out / "retrieval_coco" / "random" / "result.json"
    if not result.exists():
        error = "\n".join(last_lines(output, ERROR_LINES))
        raise RuntimeError(f"blipbench {' '.join(command)} ended with {status}:\n{error}")
    yield of_run(json.loads(result.read_text()), seconds)


def of_run(result: dict[str, Any], seconds: float) -> Record:
    """A suspect result is no failure: the similarities of random embeddings are near zero, so that rounding is large in
    comparison. The parts with trained weights check the results."""
    timing, check = result["timing"], result["self_check"]
    peak, deviation = timing["peak_flops"], np.nan if check["deviation"] is None else check["deviation"]
    shares = {stage["name"]: stage["flops"] / stage["seconds"] / peak for stage in timing["stages"]}
    lines = [
        f"{stage['name']:<14}{stage['seconds']:9.2f} s  {stage['items']:>10,} {stage['noun']}, "
        f"{shares[stage['name']]:.2f} of peak"
        for stage in timing["stages"]
    ]
    rest = timing["total_seconds"] - sum(stage["seconds"] for stage in timing["stages"])
    lines += [
        f"{'the rest':<14}{rest:9.2f} s",
        f"{'run':<14}{timing['total_seconds']:9.2f} s, with the start of Python {seconds:.2f} s",
        f"self-check: largest deviation {deviation:.1e}, {check['changed']} of {check['checked']} "
        f"{check['outcome']} changed",
    ]
    kept = ("status", "metrics", "timing", "memory", "self_check", "environment")
    figures = {"command_seconds": seconds, "share_of_peak": shares, **{name: result[name] for name in kept}}
    return Record("run", tuple(lines), figures, ok=result["status"] != "incomplete" and bool(np.isfinite(deviation)))


def profile(setup: Setup) -> Iterator[Record]:
    """`blipbench profile --amp`, and the kernels of one layer in bf16."""
    for name, flags in (("quick", ["--amp"]), ("kernels", ["--precision", "bf16"])):
        seconds = str(setup.sizes.profile_seconds)
        command = ["profile", name, *flags, "--model", setup.sizes.model, "--seconds", seconds]
        output = setup.folder / f"{name}.txt"
        status = start_blipbench([*command, "--device", setup.device, "--out", str(setup.folder)], output).wait()
        if status != 0:
            error = "\n".join(last_lines(output, ERROR_LINES))
            raise RuntimeError(f"blipbench {' '.join(command)} ended with {status}:\n{error}")
        found = read_profile(setup.folder / name / "profile.json")
        lines = [
            f"{part.label:<20}{part.precision:<6}{part.batch:>4}{part.median * 1e3:10.3f} ms, "
            f"{part.flop_rate / found.ceiling(part.precision).flops:5.2f} of peak, "
            f"{part.byte_rate / found.ceiling(part.precision).bytes:5.2f} of copy, "
            f"{part.bound(found.ceiling(part.precision))}"
            for part in found.parts
        ]
        yield Record(f"profile {name}", tuple(lines), {"profile": found.model_dump(mode="json")})


def single_token_words(tokenizer: Tokenizer) -> list[str]:
    words = [word for word in BUNDLED_VOCAB.read_text(encoding="utf-8").split("\n") if word.isascii() and len(word) > 2]
    return [word for word in words if word.isalpha() and len(tokenizer.encode([word], 8)[0]) == 3]


@torch.inference_mode()
def save_random_checkpoint(setup: Setup, images: Sequence[Path], out: Path) -> None:
    """Random weights, with embeddings around zero.

    Otherwise all embeddings are in a narrow cone, and every text selects the same few images. The candidates of a
    trained model are spread over the images, and the speed depends on that.
    """
    config, tokenizer, device = load_model_config(setup.sizes.model), load_tokenizer(), setup.device
    state = random_state_dict(config, seed=0)
    model = BlipRetrieval(config).eval().to(device)
    model.load_state_dict({name: tensor for name, tensor in state.items() if name != "temp"})
    size = config.vision.image_size
    pixels = torch.stack([decode_image(image, size) for image in images]).to(device)
    rng = np.random.default_rng(1)
    lengths = caption_lengths(rng, 4 * len(images))
    words = [rng.integers(1000, 30000, length - 2).tolist() for length in lengths]
    ids, mask = pad([[tokenizer.cls_id, *some, tokenizer.sep_id] for some in words], tokenizer.pad_id)
    centre(model.vision_proj, model.visual_encoder(normalise(pixels))[:, 0])
    centre(model.text_proj, model.text_encoder(ids.to(device), mask.to(device))[:, 0])
    save_checkpoint({**state, **{name: tensor.cpu() for name, tensor in model.state_dict().items()}}, config, out)


def centre(projection: nn.Linear, states: Tensor) -> None:
    projection.bias -= projection(states).mean(0)
