"""Compares what the fast models compute on this machine with the goldens: scores, captions, answers, judgements.

Each check gets the goldens, a `Runtime` and the bound on deviations, and returns its findings. In fp32, captions and
the order of answers must be the reference's. Other precisions may decide near ties otherwise. There, only the
log-probabilities have a bound, and what differs is counted.
"""

import numpy as np
import torch

from blipbench.device import Runtime, make_runtime
from blipbench.inference.answering import BlipVqaRunner
from blipbench.inference.blip import BlipRunner
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.ranked import RankedAnswers
from blipbench.inference.reasoning import NlvrRunner
from blipbench.inference.search import SearchSettings
from blipbench.models.blip import BlipCaptioner, BlipRetrieval, BlipVqa
from blipbench.models.nlvr import BlipNlvr
from blipbench.verification.finding import Finding, compared, relative_deviation
from blipbench.verification.goldens import Goldens

MAX_TOKENS = 35  # of a caption or a question


def check_retrieval(goldens: Goldens, runtime: Runtime, bound: float) -> list[Finding]:
    """ITC similarities of all images with all texts, and ITM scores of the pairs that the reference reranked."""
    case, expected = goldens.cases["retrieval"], goldens.expected
    runner = BlipRunner(goldens.fill(BlipRetrieval, "retrieval"), goldens.tokenizer, runtime)
    ids = runner.tokenize(case["texts"], MAX_TOKENS)
    images, tokens = runner.embed_images(goldens.pixels(case["pictures"]))
    texts = runner.embed_texts(runner.bank(ids), np.arange(len(ids)))
    owner, text_of = expected["match_pairs"].long().numpy().T
    logits = runner.matcher(ids).submit(tokens, text_of, owner).result()
    scores = logits + expected["itc"][owner, text_of]  # the reference adds both
    return [
        compared("ITC similarities", relative_deviation(torch.from_numpy(images @ texts.T), expected["itc"]), bound),
        compared("ITM scores", relative_deviation(scores, expected["match_scores"]), bound),
    ]


def check_captions(goldens: Goldens, runtime: Runtime, bound: float) -> list[Finding]:
    """Token ids of beam search. Their log-probabilities are compared with the plain model's on the CPU."""
    case = goldens.cases["caption"]
    prompt, pixels = case["prompt"], goldens.pixels(case["pictures"])
    runner = BlipCaptionRunner(goldens.fill(BlipCaptioner, "caption"), goldens.tokenizer, runtime)
    judge = BlipCaptionRunner(goldens.fill(BlipCaptioner, "caption"), goldens.tokenizer, make_runtime("cpu", "fp32"))
    tokens, plain_tokens = runner.encode_images(pixels), judge.plain_tokens(pixels)
    found, plain, other, total = [], [], 0, 0
    for told in case["searches"]:
        expected = told["token_ids"]
        settings = SearchSettings(**{name: value for name, value in told.items() if name != "token_ids"})
        for image, caption in enumerate(runner.caption(tokens, prompt, settings)):
            found.append(caption.log_prob)
            plain.append(judge.plain_log_prob(plain_tokens[image : image + 1], caption.ids, prompt))
            other += differing(caption.ids, expected[image])
            total += len(expected[image])
    deviation = relative_deviation(torch.tensor(found), torch.tensor(plain))
    return [_counted("captions", deviation, bound, runtime, other, f"of {total} tokens")]


def differing(found: list[int], expected: list[int]) -> int:
    """Places at which two captions have different tokens, or only one of them has a token."""
    same = sum(a == b for a, b in zip(found, expected, strict=False))
    return max(len(found), len(expected)) - same


def check_answers(goldens: Goldens, runtime: Runtime, bound: float) -> list[Finding]:
    """Scores of all answers to each question, and their order."""
    case, expected = goldens.cases["vqa"], goldens.expected["answer_scores"]  # [questions, answers]
    runner = BlipVqaRunner(goldens.fill(BlipVqa, "vqa"), goldens.tokenizer, runtime)
    ids = runner.tokenize_questions(case["questions"], MAX_TOKENS)
    ranked = RankedAnswers(runner, ids, case["answers"], k_test=len(case["answers"]))
    each = np.arange(len(ids))  # picture i belongs to question i
    states = runner.encode_questions(runner.encode_images(goldens.pixels(case["pictures"])), ranked.bank, each, each)
    scores, other = torch.empty_like(expected), 0
    for question, ranking in enumerate(ranked.ranker.rank(states, ranked.k_test)):
        scores[question, ranking.candidates] = -torch.from_numpy(ranking.losses)
        order = expected[question].argsort(descending=True).numpy()
        other += int((ranking.candidates != order).sum())
    deviation = relative_deviation(scores, expected)
    return [_counted("ranked answers", deviation, bound, runtime, other, f"of {expected.numel()} ranks")]


def check_reasoning(goldens: Goldens, runtime: Runtime, bound: float) -> list[Finding]:
    """Logits of sentences about two images each."""
    case = goldens.cases["nlvr"]
    runner = NlvrRunner(goldens.fill(BlipNlvr, "nlvr"), goldens.tokenizer, runtime)
    left, right = (runner.encode_images(goldens.pixels(case[side])) for side in ("left", "right"))
    ids = runner.tokenize(case["sentences"])
    logits = runner.reason(left, right, ids, np.arange(len(ids)))
    return [compared("NLVR logits", relative_deviation(logits, goldens.expected["nlvr_logits"]), bound)]


def _counted(name: str, deviation: float, bound: float, runtime: Runtime, other: int, of_all: str) -> Finding:
    """The finding for a deviation and `other` places that differ, which only fp32 forbids."""
    strict = runtime.precision == "fp32"
    note = f"{other} {of_all} differ" + ("" if strict else f", which {runtime.precision} allows")
    return compared(name, deviation, bound, note, fails=strict and other > 0)
