"""The complete COCO 5K retrieval protocol on one device, without COCO: random weights, generated pixels, random texts
with the lengths of COCO captions. For comparison, transformers' BLIP runs the reference's way on a sample, and its time
is extrapolated.

All steps use the package's code: embed, select candidates, match, score. Only the pixels come from a seeded generator,
not from files, so the times include neither decoding nor the journal.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from coco_files import caption_lengths, caption_owners
from gpu_setup import Record, Setup
from gpu_timing import Stopwatch, forget_peak, peak_bytes
from reference_way import ReferenceWay
from torch import Tensor

from blipbench.config.models import load_model_config
from blipbench.data.images import normalise
from blipbench.device import DEVIATION_BOUNDS, Runtime, make_runtime
from blipbench.inference.attention import Indices
from blipbench.inference.blip import BlipRunner
from blipbench.inference.matching import Matcher, Pending
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

WARM_UP_TEXTS = 1024

Scored = list[tuple[Candidates, Tensor]]  # an image's candidate texts and their ITM logits [n]


def measure(setup: Setup) -> Iterator[Record]:
    sizes, tokenizer = setup.sizes, load_tokenizer()
    config = load_model_config(sizes.model)
    path = setup.folder / "random.pth"
    save_checkpoint(random_state_dict(config, seed=0), config, path)
    checkpoint = load_checkpoint(str(path), config=config)
    reference = ReferenceWay(checkpoint, setup.folder / "transformers", tokenizer.pad_id, tokenizer.enc_id)
    for precision, images in sizes.retrieval:
        work = make_workload(images, config.vision.image_size, sizes.k_test, tokenizer)
        runtime = make_runtime(setup.device, precision)
        ours = run_ours(checkpoint, work, tokenizer, runtime)
        yield of_ours(precision, work, ours, measure_peak(runtime))
        theirs = run_reference(reference, work, runtime, ours.scored, sizes.reference_pairs)
        yield of_reference(precision, ours, theirs)


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


def make_workload(images: int, image_size: int, k_test: int, tokenizer: Tokenizer) -> Workload:
    owner, rng = caption_owners(images), np.random.default_rng(0)
    words = [rng.integers(1000, 30000, length - 2).tolist() for length in caption_lengths(rng, len(owner))]
    return Workload(images, image_size, [[tokenizer.cls_id, *w, tokenizer.sep_id] for w in words], owner, k_test)


def run_ours(checkpoint: Checkpoint, work: Workload, tokenizer: Tokenizer, runtime: Runtime) -> Outcome:
    model = BlipRetrieval(checkpoint.config)
    load_weights(model, checkpoint, "retrieval_coco")
    runner = BlipRunner(model, tokenizer, runtime)
    forget_peak(runtime)
    warm_up(runner, work)
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
    texts = work.input_ids[:WARM_UP_TEXTS]
    runner.embed_texts(runner.bank(texts), np.arange(len(texts)))
    runner.matcher(texts).score(tokens[0], np.arange(len(texts)))


def embed(runner: BlipRunner, work: Workload, cache: TokenCache, clock: Stopwatch) -> Embeddings:
    every = np.arange(len(work.input_ids))
    with clock("embed texts"):
        texts = runner.embed_texts(runner.bank(work.input_ids), every)
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
    """Score all candidate lists. One batch is submitted ahead, so that a GPU always has work."""
    scored: Scored = []
    waiting: tuple[list[Candidates], Pending] | None = None
    for submitted in submit(runner, work, candidates, cache):
        if waiting is not None:
            scored += split(*waiting)
        waiting = submitted
    return scored + (split(*waiting) if waiting is not None else [])


def submit(
    runner: BlipRunner, work: Workload, candidates: list[Candidates], cache: TokenCache
) -> Iterator[tuple[list[Candidates], Pending]]:
    """First the images whose tokens are cached, then the ones to compute again."""
    matcher = runner.matcher(work.input_ids)
    yield from submit_batches(matcher, [c for c in candidates if c.image in cache], cache)
    for batch in batches([c for c in candidates if c.image not in cache], runner.vision.batch):
        images = [c.image for c in batch]
        _, tokens = runner.embed_images(work.pixels(images, runner.runtime.device))
        yield from submit_batches(matcher, batch, dict(zip(images, tokens, strict=True)))


def submit_batches(
    matcher: Matcher, candidates: Sequence[Candidates], tokens: TokenCache | dict[int, Tensor]
) -> Iterator[tuple[list[Candidates], Pending]]:
    """`tokens` has [T, width] for each image."""
    if not candidates:
        return
    for batch in matcher.batches(((c, c.texts) for c in candidates), len(tokens[candidates[0].image])):
        texts = [c.texts for c in batch]
        owner = np.repeat(np.arange(len(batch)), [len(some) for some in texts])
        image_embeds = torch.stack([tokens[c.image] for c in batch])  # [m, T, width]
        yield batch, matcher.submit(image_embeds, np.concatenate(texts), owner)


def split(batch: list[Candidates], pending: Pending) -> Scored:
    return list(zip(batch, pending.result().split([len(c.texts) for c in batch]), strict=True))


def score(embeddings: Embeddings, scored: Scored) -> dict[str, float]:
    """The protocol's metrics, at chance level because the weights are random."""
    pairs = Pairs(
        image=np.concatenate([np.full(len(c.texts), c.image, np.int32) for c, _ in scored]),
        text=np.concatenate([c.texts for c, _ in scored]).astype(np.int32),
        itm=np.concatenate([itm.numpy() for _, itm in scored]),
        itc=np.concatenate([c.itc for c, _ in scored]),
        for_image=np.concatenate([c.for_image for c, _ in scored]),
        for_text=np.concatenate([c.for_text for c, _ in scored]),
    )
    ranks = retrieval_score.rerank(embeddings, pairs)
    metrics = retrieval_metrics(ranks.text_rank, ranks.image_rank, embeddings.owner, embeddings.is_video, seed=0)
    return {name: metric.value for name, metric in metrics.values.items()}


def run_reference(
    reference: ReferenceWay, work: Workload, runtime: Runtime, scored: Scored, sample_pairs: int
) -> dict[str, float]:
    """Run transformers in the same precision on a sample, and extrapolate to the pairs of both directions.

    This is easier than the reference's work: image states are ready on the device, and no text needs the states of
    k_test different images at once. `deviation` is the deviation of our logits from transformers' on the sample.
    """
    way = reference.placed(runtime.device, runtime.dtype)
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


def of_ours(precision: str, work: Workload, ours: Outcome, peak: float) -> Record:
    shares = {name: flops / ours.seconds[name] / peak for name, flops in ours.flops.items()}
    lines = [f"{precision}, {work.images:,} images, {len(work.input_ids):,} texts, k {work.k_test}"]
    for name, seconds in ours.seconds.items():
        rate = (
            f"{ours.flops[name] / seconds / 1e12:10.4g} TFLOP/s, {shares[name]:.2f} of peak" if name in shares else ""
        )
        lines.append(f"{name:<14}{seconds:9.2f} s  {rate}".rstrip())
    total = sum(ours.seconds.values())
    texts = [len(c.texts) for c, _ in ours.scored]
    lines += [
        f"{'all':<14}{total:9.2f} s  peak memory {ours.peak_bytes / 2**30:.2f} GiB, "
        f"peak of products {peak / 1e12:.4g} TFLOP/s",
        f"{ours.pairs:,} pairs, {ours.pairs / ours.seconds['match']:,.0f} per second; "
        f"texts of an image: {min(texts)} to {max(texts)}, median {np.median(texts):.0f}",
    ]
    figures: dict[str, Any] = {
        "precision": precision,
        "images": work.images,
        "texts": len(work.input_ids),
        "mean_tokens": float(work.lengths.mean()),
        "k_test": work.k_test,
        "peak_flops": peak,
        "seconds": ours.seconds,
        "total_seconds": total,
        "flops": ours.flops,
        "share_of_peak": shares,
        "pairs": ours.pairs,
        "pairs_per_second": ours.pairs / ours.seconds["match"],
        "peak_bytes": ours.peak_bytes,
        "metrics": ours.metrics,
    }
    return Record("retrieval", tuple(lines), figures)


def of_reference(precision: str, ours: Outcome, theirs: dict[str, float]) -> Record:
    matching = theirs["match_seconds"] / ours.seconds["match"]
    whole = (theirs["match_seconds"] + theirs["image_seconds"]) / sum(ours.seconds.values())
    lines = (
        f"transformers in {precision}, from {theirs['sample_pairs']:,} pairs: "
        f"{1 / theirs['seconds_per_pair']:,.0f} pairs/s, {theirs['match_seconds']:,.0f} s for {theirs['pairs']:,}, "
        f"{theirs['image_seconds']:,.1f} s for the images, peak memory {theirs['peak_bytes'] / 2**30:.2f} GiB",
        f"ours is {matching:.1f} times as fast in matching, {whole:.1f} times in all; "
        f"largest deviation of a logit {theirs['deviation']:.1e}",
    )
    figures = {"precision": precision, **theirs, "times_as_fast": {"match": matching, "all": whole}}
    return Record("transformers", lines, figures, ok=theirs["deviation"] <= DEVIATION_BOUNDS[precision])
