"""Caption metrics of the COCO evaluation, times 100: BLEU-1..4, METEOR, ROUGE-L, CIDEr, SPICE, and NoCaps' by domain.

Captions and references are tokenized together, once. METEOR and SPICE run in parallel while this process computes BLEU,
ROUGE-L and CIDEr. All metrics require the tokenizer, a Java program. Without Java there are no scores, only a note.

Intervals resample images. CIDEr's document frequencies come from all images and are not resampled. A domain's CIDEr is
the mean over its images of their scores among all images, as in the published NoCaps rows: there, the figure for all
4,500 images is the mean of the three domains, weighted by 648, 2,938 and 914 images. If a domain were scored alone, it
would have other document frequencies. METEOR weights images by length and has no interval. `exact` is the percentage of
captions that equal one of their references. It is not a COCO metric, but it is easy to understand.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from blipbench.metrics import bootstrap
from blipbench.metrics.caption_tools import SpiceScores, meteor, spice, tokenize
from blipbench.metrics.java import JavaError, Programs
from blipbench.metrics.metric import Metric, Metrics

MAX_N = 4

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int32]


def caption_metrics(
    captions: Mapping[int, str],
    references: Mapping[int, Sequence[str]],
    *,
    seed: int,
    domains: Mapping[int, str] | None = None,
) -> Metrics:
    """Metrics of raw captions by image id. There must be at least one, and every image must have references.

    `domains` ("in-domain", "near-domain", "out-domain") adds `in_CIDEr`, `in_SPICE` and so on. A metric whose Java
    program fails is omitted, with a note. outcomes: `CIDEr` of each image, and `image_id`.
    """
    typed = [*captions.values(), *(reference for image in captions for reference in references[image])]
    try:
        tokens = iter(tokenize(typed))
    except JavaError as error:
        note = f"nothing is scored yet, because all caption metrics require a tokenizer in Java: {error}; {_FINISH}"
        return Metrics({}, {}, (note,))
    tokenized = {image: next(tokens) for image in captions}
    tokenized_references = {image: [next(tokens) for _ in references[image]] for image in captions}
    return score_tokenized(tokenized, tokenized_references, seed=seed, domains=domains)


def score_tokenized(
    captions: Mapping[int, str],
    references: Mapping[int, Sequence[str]],
    *,
    seed: int,
    domains: Mapping[int, str] | None = None,
) -> Metrics:
    """The same as `caption_metrics`, for captions that are tokenized already (separated by spaces)."""
    images = list(captions)
    tests = list(captions.values())
    truths = [list(references[image]) for image in images]
    if not any(reference for truth in truths for reference in truth):
        return Metrics({}, {}, ("nothing is scored: no reference contains a word",))
    weights = bootstrap.draw_weights(len(images), seed)
    notes: list[str] = []
    with ThreadPoolExecutor(2) as pool, Programs() as programs:
        meteor_job = pool.submit(meteor, tests, truths, programs)
        spice_job = pool.submit(spice, tests, truths, programs)
        values = _bleu(tests, truths, weights)
        rouge, cider = _per_image(Rouge(), tests, truths), _per_image(Cider(), tests, truths)
        try:
            values["METEOR"] = Metric(100 * meteor_job.result()[0])
        except JavaError as error:
            notes.append(f"METEOR was skipped: {error}; fix this, {_FINISH}")
        spice_scores: SpiceScores | None = None
        try:
            spice_scores = spice_job.result()
        except JavaError as error:
            notes.append(f"SPICE was skipped: {error}; {_FINISH}")

    values["ROUGE_L"] = _mean(rouge, weights)
    values["CIDEr"] = _mean(cider, weights)
    by_domain = {"CIDEr": cider}
    if spice_scores is not None and spice_scores.per_image is not None:
        values["SPICE"] = _mean(spice_scores.per_image, weights)
        by_domain["SPICE"] = spice_scores.per_image
    elif spice_scores is not None:
        values["SPICE"] = Metric(100 * spice_scores.mean)
        notes.append(
            "SPICE is only known to one decimal, for all images together and without an interval, because it requires "
            f"Java 14 or earlier to write the score of each image; to get these scores, install Java 8 to 14, {_FINISH}"
        )
    exact = np.array([float(test in truth) for test, truth in zip(tests, truths, strict=True)])
    values["exact"] = _mean(exact, weights)
    domain_of = np.array([(domains or {}).get(image, "") for image in images])
    for domain in dict.fromkeys(domain_of[domain_of != ""].tolist()):
        for name, scores in by_domain.items():
            values[f"{domain.removesuffix('-domain')}_{name}"] = _mean(scores, weights, domain_of == domain)
    if len(images) == 1:
        notes.append("CIDEr of one image is always 0: a word's weight depends on how few images' references contain it")
    return Metrics(values, {"CIDEr": 100 * cider, "image_id": np.array(images)}, tuple(notes))


_FINISH = "then `blipbench score RUN` finishes without the model"


def _mean(scores: Floats, weights: Weights, among: npt.NDArray[np.bool_] | None = None) -> Metric:
    """The mean of per-image scores [images], times 100. `among` [images] selects a subset."""
    member = np.ones(len(scores)) if among is None else among.astype(np.float64)
    drawn = 100 * bootstrap.resampled_ratio(weights, scores * member, member)
    return Metric(float(100 * (scores * member).sum() / member.sum()), *bootstrap.interval(drawn))


def _per_image(scorer: Rouge | Cider, tests: Sequence[str], truths: Sequence[list[str]]) -> Floats:
    _, scores = scorer.compute_score(dict(enumerate(truths)), {image: [test] for image, test in enumerate(tests)})
    return np.asarray(scores, dtype=np.float64)


def _bleu(tests: Sequence[str], truths: Sequence[Sequence[str]], weights: Weights) -> dict[str, Metric]:
    scorer = BleuScorer(n=MAX_N)
    for test, truth in zip(tests, truths, strict=True):
        scorer += (test, list(truth))
    whole, _ = scorer.compute_score(option="closest")
    counts = np.array(
        [[*c["correct"], *c["guess"], c["testlen"], _closest(c["reflen"], c["testlen"])] for c in scorer.ctest],
        dtype=np.float64,
    )  # [images, 2 * MAX_N + 2]
    drawn = 100 * bleu_of_counts(bootstrap.resampled_sums(weights, counts))  # [resamples, MAX_N]
    return {f"Bleu_{n + 1}": Metric(float(100 * whole[n]), *bootstrap.interval(drawn[:, n])) for n in range(MAX_N)}


def _closest(reference_lengths: Sequence[int], length: int) -> int:
    """The reference length closest to the caption's length; if two are equally close, the shorter one."""
    return min((abs(reference - length), reference) for reference in reference_lengths)[1]


def bleu_of_counts(counts: Floats) -> Floats:
    """BLEU-1..4 [..., 4] from sums over images [..., 10].

    The sums are: correct and guessed n-grams (n = 1 to 4), the lengths of the captions, and the lengths of their
    closest references. The small constants that avoid division by zero are pycocoevalcap's.
    """
    correct, guessed = counts[..., :MAX_N], counts[..., MAX_N : 2 * MAX_N]
    length, reference_length = counts[..., -2], counts[..., -1]
    precision = (correct + 1e-15) / (guessed + 1e-9)
    geometric = np.cumprod(precision, axis=-1) ** (1 / np.arange(1, MAX_N + 1))
    ratio = (length + 1e-15) / (reference_length + 1e-9)
    brevity: Floats = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    return geometric * brevity[..., None]
