"""The complete COCO 5K retrieval protocol on one GPU, without COCO: random base weights at 384 px, generated pixels,
random texts with the lengths of COCO captions. For comparison, transformers' BLIP runs the reference's way on a sample,
and its time is extrapolated.

python tests/benchmarks/gpu_retrieval.py
python tests/benchmarks/gpu_retrieval.py --device cpu --model tiny --images 8 --k-test 8 --precision fp32

All steps use the package's code: embed, select candidates, match, score. Only the pixels come from a seeded generator,
not from files, so the times include neither decoding nor the journal. Prints each table when it is ready, and one line
of JSON at the end.
"""

import argparse
import contextlib
import dataclasses
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from reference_way import ReferenceWay
from torch import Tensor

from blipbench.config.models import load_model_config
from blipbench.data.images import normalise
from blipbench.device import PRECISIONS, Runtime, make_runtime
from blipbench.inference.attention import Indices
from blipbench.inference.blip import BlipRunner
from blipbench.inference.matching import Pending
from blipbench.inference.peak import measure_peak
from blipbench.inference.token_cache import TokenCache
from blipbench.metrics.retrieval import retrieval_metrics
from blipbench.models.blip import BlipRetrieval
from blipbench.models.checkpoint import Checkpoint, load_checkpoint, load_weights
from blipbench.models.conversion import save_checkpoint
from blipbench.models.random_weights import random_state_dict
from blipbench.models.tokenizer import Tokenizer, load_tokenizer
from blipbench.protocols.retrieval import score as retrieval_score
from blipbench.protocols.retrieval.candidates import Candidates, find_candidates
from blipbench.protocols.retrieval.score import Embeddings, Pairs
from blipbench.protocols.retrieval.stages import TEXTS_PER_UNIT

IMAGES_PER_SIXTH_CAPTION = 500  # COCO's 5,000 test images have 25,010 captions

Scored = list[tuple[Candidates, Tensor]]  # an image's candidate texts and their ITM logits [n]


@dataclasses.dataclass(frozen=True)
class Workload:
    """Texts as token ids, starting with [CLS], and the image of each text. Pixels are generated on demand."""

    images: int
    image_size: int
    input_ids: list[list[int]]
    owner: Indices  # [texts]
    k_test: int

    @property
    def lengths(self) -> Indices:
        return np.array([len(ids) for ids in self.input_ids])

    @property
    def pairs_both_ways(self) -> int:
        """The number of pairs that the reference matches; it matches pairs that both directions need twice."""
        texts = len(self.input_ids)
        return self.images * min(self.k_test, texts) + texts * min(self.k_test, self.images)

    def pixels(self, which: Sequence[int], device: torch.device) -> Tensor:
        """uint8 [n, 3, S, S] on the device: noise over colours that depend on the image, the same in every call."""
        size, made = self.image_size, []
        for image in which:
            generator = torch.Generator(device).manual_seed(image)
            colours = torch.randint(0, 192, (1, 3, 4, 4), generator=generator, device=device)
            noise = torch.randint(0, 64, (3, size, size), generator=generator, device=device)
            made.append(F.interpolate(colours.float(), size=size)[0].to(torch.uint8) + noise.to(torch.uint8))
        return torch.stack(made)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The results for one precision. `flops` are the needed FLOPs by stage."""

    seconds: dict[str, float]
    flops: dict[str, float]
    scored: Scored
    metrics: dict[str, float]
    peak_bytes: int

    @property
    def pairs(self) -> int:
        return sum(len(c.texts) for c, _ in self.scored)


class Stopwatch:
    """Seconds by name, including the work of the device."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.runtime.synchronize()
        start = time.perf_counter()
        yield
        self.runtime.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def make_workload(images: int, texts_per_image: int, image_size: int, k_test: int, tokenizer: Tokenizer) -> Workload:
    """Random texts as long as COCO's captions: 12.5 tokens on average with [CLS] and [SEP], at most 35."""
    sixth = IMAGES_PER_SIXTH_CAPTION * np.arange(images // IMAGES_PER_SIXTH_CAPTION)
    owner = np.sort(np.concatenate([np.repeat(np.arange(images), texts_per_image), sixth]))
    rng = np.random.default_rng(0)
    lengths = np.clip(np.round(rng.gamma(9.0, 5.5 / 9.0, len(owner)) + 7.0), 8, 35).astype(int)
    words = [rng.integers(1000, 30000, length - 2).tolist() for length in lengths]
    return Workload(images, image_size, [[tokenizer.cls_id, *w, tokenizer.sep_id] for w in words], owner, k_test)


def run_ours(checkpoint: Checkpoint, work: Workload, tokenizer: Tokenizer, runtime: Runtime) -> Outcome:
    model = BlipRetrieval(checkpoint.config)
    load_weights(model, checkpoint, "retrieval_coco")
    runner = BlipRunner(model, tokenizer, runtime)
    warm_up(runner, work)
    forget_peak(runtime)
    clock = Stopwatch(runtime)
    cache = TokenCache(runtime.cache_bytes // 2, work.images)
    embeddings = embed(runner, work, cache, clock)
    with clock("candidates"):
        candidates = list(find_candidates(embeddings, work.k_test, runtime.device))
    with clock("match"):
        scored = match_all(runner, work, candidates, cache)
    with clock("score"):
        metrics = score(embeddings, scored)
    costs = runner.match_flops(work.lengths, frames=1)
    flops = {
        "embed texts": float(runner.text_flops(work.lengths).sum()),
        "embed images": work.images * runner.image_flops(frames=1),
        "match": sum(runner.context_flops(frames=1) + float(costs[c.texts].sum()) for c in candidates),
    }
    return Outcome(clock.seconds, flops, scored, metrics, peak_bytes(runtime))


def warm_up(runner: BlipRunner, work: Workload) -> None:
    """The first call with a shape selects kernels and allocates memory."""
    _, tokens = runner.embed_images(work.pixels(range(min(work.images, runner.vision.batch)), runner.runtime.device))
    texts = work.input_ids[: 4 * TEXTS_PER_UNIT]
    runner.embed_texts(runner.bank(texts), np.arange(len(texts)))
    runner.matcher(texts).score(tokens[0], np.arange(len(texts)))


def embed(runner: BlipRunner, work: Workload, cache: TokenCache, clock: Stopwatch) -> Embeddings:
    every = np.arange(len(work.input_ids))
    with clock("embed texts"):
        bank = runner.bank(work.input_ids)
        blocks = np.split(every, np.arange(TEXTS_PER_UNIT, len(every), TEXTS_PER_UNIT))
        texts = np.concatenate([runner.embed_texts(bank, block) for block in blocks])
    with clock("embed images"):
        images = []
        for batch in batches(range(work.images), runner.vision.batch):
            embeddings, tokens = runner.embed_images(work.pixels(batch, runner.runtime.device))
            images.append(embeddings)
            for image, image_tokens in zip(batch, tokens, strict=True):
                cache.offer(image, image_tokens)
    return Embeddings(
        image_ids=np.arange(work.images),
        text_ids=every,
        images=spread(torch.from_numpy(np.concatenate(images))),
        texts=spread(torch.from_numpy(texts)),
        owner=work.owner,
        is_video=False,
    )


def spread(embeddings: Tensor) -> Tensor:
    """Subtract the mean and normalise: [n, embed_dim] -> [n, embed_dim].

    With random weights all embeddings are in a narrow cone, and every text would select the same few images. The
    candidates of a trained model are spread over the images, and the speed depends on that.
    """
    return F.normalize(embeddings - embeddings.mean(0), dim=-1)


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def match_all(runner: BlipRunner, work: Workload, candidates: list[Candidates], cache: TokenCache) -> Scored:
    """Score all candidate lists. One image is submitted ahead, so that a GPU always has work."""
    matcher = runner.matcher(work.input_ids)
    scored: Scored = []
    waiting: list[tuple[Candidates, Pending]] = []
    for c, tokens in with_tokens(runner, work, candidates, cache):
        waiting.append((c, matcher.submit(tokens, c.texts)))
        if len(waiting) > 1:
            done, pending = waiting.pop(0)
            scored.append((done, pending.result()))
    return scored + [(c, pending.result()) for c, pending in waiting]


def with_tokens(
    runner: BlipRunner, work: Workload, candidates: list[Candidates], cache: TokenCache
) -> Iterator[tuple[Candidates, Tensor]]:
    """Each list with its image's tokens [T, width]: first the cached ones, then the ones to compute again."""
    yield from ((c, cache[c.image]) for c in candidates if c.image in cache)
    for batch in batches([c for c in candidates if c.image not in cache], runner.vision.batch):
        _, tokens = runner.embed_images(work.pixels([c.image for c in batch], runner.runtime.device))
        yield from zip(batch, tokens, strict=True)


def score(embeddings: Embeddings, scored: Scored) -> dict[str, float]:
    """The protocol's metrics, at chance level because the weights are random."""
    pairs = Pairs(
        image=np.concatenate([np.full(len(c.texts), c.image) for c, _ in scored]),
        text=np.concatenate([c.texts for c, _ in scored]),
        itm=np.concatenate([itm.numpy() for _, itm in scored]).astype(np.float64),
        itc=np.concatenate([c.itc for c, _ in scored]).astype(np.float64),
        for_image=np.concatenate([c.for_image for c, _ in scored]),
        for_text=np.concatenate([c.for_text for c, _ in scored]),
    )
    ranks = retrieval_score.rerank(embeddings, retrieval_score.itc_ranks(embeddings), pairs)
    metrics = retrieval_metrics(ranks.text_rank, ranks.image_rank, embeddings.owner, embeddings.is_video, seed=0)
    return {name: metric.value for name, metric in metrics.values.items()}


def run_reference(
    checkpoint: Checkpoint, work: Workload, tokenizer: Tokenizer, runtime: Runtime, scored: Scored, sample_pairs: int
) -> dict[str, float]:
    """Run transformers in the same precision on a sample, and extrapolate to the pairs of both directions.

    This is easier than the reference's work: image states are ready on the device, and no text needs the states of
    k_test different images at once. `deviation` is the deviation of our logits from transformers' on the sample.
    """
    with tempfile.TemporaryDirectory() as folder:
        way = ReferenceWay(
            checkpoint, Path(folder) / "blip", tokenizer.pad_id, tokenizer.enc_id, device=str(runtime.device)
        )
    way.model.to(runtime.dtype)
    forget_peak(runtime)
    sample = scored[: max(1, sample_pairs // work.k_test)]
    images = normalise(work.pixels([c.image for c, _ in sample], runtime.device)).to(runtime.dtype)
    clock = Stopwatch(runtime)
    states, _ = way.encode_images(images)  # warms up
    with clock("images"):
        way.encode_images(images)
    pairs, deviation, largest = 0, 0.0, 0.0
    for at, ((c, itm), image_states) in enumerate(zip(sample, states, strict=True)):
        ids, mask = way.padded([work.input_ids[text] for text in c.texts[c.for_image]])
        if at == 0:
            way.match(ids, mask, image_states.repeat(len(ids), 1, 1))  # warms up
        with clock("match"):
            logits = way.match(ids, mask, image_states.repeat(len(ids), 1, 1)).float().cpu()
        pairs += len(ids)
        deviation = max(deviation, float((itm[torch.from_numpy(c.for_image)] - logits).abs().max()))
        largest = max(largest, float(logits.abs().max()))
    return {
        "sample_pairs": pairs,
        "seconds_per_pair": clock.seconds["match"] / pairs,
        "pairs": work.pairs_both_ways,
        "match_seconds": clock.seconds["match"] / pairs * work.pairs_both_ways,
        "image_seconds": clock.seconds["images"] / len(sample) * work.images,
        "deviation": deviation / largest,
        "peak_bytes": peak_bytes(runtime),
    }


def forget_peak(runtime: Runtime) -> None:
    if runtime.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(runtime.device)


def peak_bytes(runtime: Runtime) -> int:
    """On a GPU, torch's peak allocation since `forget_peak`; on a CPU, the peak memory of this process."""
    memory = runtime.peak_memory()
    return memory["peak_device_bytes"] or memory["peak_rss_bytes"]


def report(precision: str, ours: Outcome, theirs: dict[str, float], peak: float) -> dict[str, Any]:
    """Print the table of one precision, and return it as a record."""
    print(f"\n{precision}, measured matmul peak {peak / 1e12:.4g} TFLOP/s")
    shares = {name: flops / ours.seconds[name] / peak for name, flops in ours.flops.items()}
    for name, seconds in ours.seconds.items():
        rate = (
            f"{ours.flops[name] / seconds / 1e12:10.4g} TFLOP/s {shares[name]:5.2f} of peak" if name in shares else ""
        )
        print(f"  {name:<14}{seconds:10.2f} s {rate}")
    total = sum(ours.seconds.values())
    texts = np.array([len(c.texts) for c, _ in ours.scored])
    print(f"  {'all':<14}{total:10.2f} s, peak memory {ours.peak_bytes / 2**30:.2f} GiB")
    print(
        f"  {ours.pairs:,} pairs, {ours.pairs / ours.seconds['match']:,.0f} per second; "
        f"texts per image: {texts.min()} to {texts.max()}, median {np.median(texts):.0f}"
    )
    pair_times = theirs["match_seconds"] / ours.seconds["match"]
    times = (theirs["match_seconds"] + theirs["image_seconds"]) / total
    print(
        f"  transformers, from {theirs['sample_pairs']:,} pairs: {1 / theirs['seconds_per_pair']:,.0f} pairs/s, "
        f"{theirs['match_seconds']:,.0f} s for {theirs['pairs']:,}, {theirs['image_seconds']:,.0f} s for the images, "
        f"peak memory {theirs['peak_bytes'] / 2**30:.2f} GiB"
    )
    print(f"  matching is {pair_times:.1f} times as fast, the protocol {times:.1f} times")
    print(f"  largest deviation of a logit from transformers in {precision}: {theirs['deviation']:.1e}")
    return {
        "precision": precision,
        "peak_flops": peak,
        "seconds": ours.seconds,
        "total_seconds": total,
        "flops": ours.flops,
        "share_of_peak": shares,
        "pairs": ours.pairs,
        "pairs_per_second": ours.pairs / ours.seconds["match"],
        "peak_bytes": ours.peak_bytes,
        "metrics": ours.metrics,
        "transformers": theirs,
        "times_as_fast": {"match": pair_times, "protocol": times},
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="COCO's 5K retrieval protocol on one GPU, on generated images and texts."
    )
    parser.add_argument("--model", default="base", help="a name in configs/models, or a YAML file")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--texts-per-image", type=int, default=5)
    parser.add_argument("--k-test", type=int, default=256)
    parser.add_argument("--precision", action="append", choices=list(PRECISIONS), help="default: bf16, then fp32")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-tokens", type=int, help="tokens in one forward pass (default: depends on the device)")
    parser.add_argument("--sample-pairs", type=int, default=2048, help="pairs that transformers matches")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    config, tokenizer = load_model_config(args.model), load_tokenizer()
    work = make_workload(args.images, args.texts_per_image, config.vision.image_size, args.k_test, tokenizer)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.pth"
        save_checkpoint(random_state_dict(config, seed=0), config, path)
        checkpoint = load_checkpoint(str(path), config=config)
        for precision in args.precision or ["bf16", "fp32"]:
            torch.cuda.empty_cache()  # memory of the earlier precision would reduce the cache; no effect on a CPU
            runtime = make_runtime(args.device, precision, args.batch_tokens)
            print(f"{precision}: our way", file=sys.stderr)
            ours = run_ours(checkpoint, work, tokenizer, runtime)
            print(f"{precision}: transformers' way", file=sys.stderr)
            theirs = run_reference(checkpoint, work, tokenizer, runtime, ours.scored, args.sample_pairs)
            runs.append(report(precision, ours, theirs, measure_peak(runtime)))
    about = {
        "device": runtime.describe(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "model": config.name,
        "image_size": work.image_size,
        "images": work.images,
        "texts": len(work.input_ids),
        "mean_tokens": float(work.lengths.mean()),
        "k_test": work.k_test,
    }
    print(json.dumps({**about, "runs": runs}))


if __name__ == "__main__":
    main()
