"""Visual question answering: rank a list of answers, or generate one (BLIP, section 5.3).

One stage, `answer`; a unit is an image with all its questions.

Ground truth goes into the samples, so that they alone decide the score. A split without it (VQAv2's test) gets no
metric but the file for its server.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from blipbench.data.dataset import num_frames
from blipbench.data.loader import load_pixels
from blipbench.data.vqa import VqaDataset
from blipbench.errors import DataError
from blipbench.inference.answering import Answer, Answerer, BlipVqaRunner
from blipbench.metrics.metric import Metrics
from blipbench.metrics.vqa import vqa_metrics
from blipbench.protocols.base import Sample, Samples, SelfCheck, Stage, Unit

CHECKED_SCORES = 32
QUESTIONS_PER_IMAGE = 4  # checked
SERVER_FILE = "vqa_result.json"

ANSWER_ROWS = pa.schema(
    [
        ("index", pa.int32()),  # the question's, in the data set
        ("question_id", pa.int64()),
        ("image", pa.int32()),
        ("name", pa.string()),  # the image's file
        ("question", pa.string()),
        ("answer", pa.string()),
        ("tokens", pa.list_(pa.int32())),  # of the answer, without [DEC] and [SEP]
        ("candidates", pa.list_(pa.string())),  # the best few, best first
        ("scores", pa.list_(pa.float32())),  # theirs
        ("answers", pa.list_(pa.string())),  # ground truth, or null
        ("answer_type", pa.string()),  # of the ground truth, or null
    ]
)


@dataclasses.dataclass(frozen=True)
class Vqa:
    model: BlipVqaRunner
    dataset: VqaDataset
    answerer: Answerer
    stages: Sequence[Stage]

    def score(self, samples: Samples, seed: int) -> Metrics:
        return score(samples, seed)

    def self_check(self, samples: Samples, seed: int) -> SelfCheck:
        return check_sample(self.model, self.dataset, self.answerer, samples, seed)


def build_vqa(model: BlipVqaRunner, dataset: VqaDataset, answerer: Answerer, workers: int) -> Vqa:
    """`answerer` knows the data set's questions, by their indices."""
    return Vqa(model, dataset, answerer, [AnswerStage(model, dataset, answerer, workers)])


def score(samples: Samples, seed: int) -> Metrics:
    """Metrics where the samples hold ground truth; the server's file in any case."""
    rows = samples["answer"].sort_by("index").to_pylist()
    server_file = [{"question_id": row["question_id"], "answer": row["answer"]} for row in rows]
    if rows[0]["answers"] is None:
        note = f"this split has no public answers: submit {SERVER_FILE} to the benchmark's server to learn the accuracy"
        return Metrics({}, {}, (note,), {SERVER_FILE: server_file})
    metrics = vqa_metrics(
        [row["answer"] for row in rows],
        [row["answers"] for row in rows],
        [row["answer_type"] for row in rows],
        np.array([row["image"] for row in rows]),
        seed=seed,
    )
    return dataclasses.replace(metrics, exports={**metrics.exports, SERVER_FILE: server_file})


@dataclasses.dataclass(frozen=True)
class AnswerStage:
    """An answer for every question; a unit is an image with its questions."""

    model: BlipVqaRunner
    dataset: VqaDataset
    answerer: Answerer
    workers: int
    name: str = "answer"
    noun: str = "questions"
    schema: pa.Schema = ANSWER_ROWS

    def units(self, earlier: Samples) -> list[Unit]:
        image_cost = self.model.image_flops(num_frames(self.dataset.sources[0]))
        costs = self.answerer.flops(num_frames(self.dataset.sources[0]))  # [questions]
        about = np.argsort(self.dataset.image_of_question, kind="stable")
        counts = np.bincount(self.dataset.image_of_question, minlength=len(self.dataset.sources))
        questions = np.split(about, np.cumsum(counts)[:-1])
        return [
            Unit(f"image-{image}", image_cost + float(costs[which].sum()), len(which), (image, which))
            for image, which in enumerate(questions)
        ]

    def run(self, units: Sequence[Unit]) -> Iterator[Sample]:
        vision = self.model.vision
        sources = [self.dataset.sources[unit.payload[0]] for unit in units]
        for batch in load_pixels(sources, image_size=vision.image_size, batch_size=vision.batch, workers=self.workers):
            yield from (Sample(units[at].id, error=reason) for at, reason in batch.failures)
            if not batch.indices:
                continue
            tokens = self.model.encode_images(batch.pixels)
            asked = [units[at].payload[1] for at in batch.indices]
            image_of = np.repeat(np.arange(len(asked)), [len(which) for which in asked])
            answers = iter(self.answerer.answer(tokens, np.concatenate(asked), image_of))
            for at, which in zip(batch.indices, asked, strict=True):
                yield Sample(units[at].id, [self._row(question, next(answers)) for question in which.tolist()])

    def _row(self, question: int, answer: Answer) -> dict[str, object]:
        data = self.dataset
        image = int(data.image_of_question[question])
        return {
            "index": question,
            "question_id": data.question_ids[question],
            "image": image,
            "name": data.names[image],
            "question": data.questions[question],
            "answer": answer.text,
            "tokens": answer.tokens,
            "candidates": answer.candidates,
            "scores": answer.scores,
            "answers": data.answers[question] if data.answers is not None else None,
            "answer_type": data.answer_types[question] if data.answer_types is not None else None,
        }


def check_sample(
    model: BlipVqaRunner, dataset: VqaDataset, answerer: Answerer, samples: Samples, seed: int
) -> SelfCheck:
    """The questions of random images, as many as have 32 scores between them, answered again the plain way."""
    table = samples["answer"]
    images = table.column("image").to_numpy()
    fast: list[float] = []
    plain: list[float] = []
    changed = checked = 0
    for image in np.random.default_rng(seed).permutation(np.unique(images)):
        if len(fast) >= CHECKED_SCORES:
            break
        source = dataset.sources[image]
        (batch,) = load_pixels([source], image_size=model.vision.image_size, batch_size=1, workers=0)
        if batch.failures:
            raise DataError(f"self-check: {batch.failures[0][1]}; it could be read before, so the data has changed")
        rows = table.filter(pa.array(images == image)).to_pylist()[:QUESTIONS_PER_IMAGE]
        again = answerer.plain_answers(batch.pixels, [row["index"] for row in rows])
        for row, answer in zip(rows, again, strict=True):
            scores = dict(zip(answer.candidates, answer.scores, strict=True))
            for candidate, value in zip(row["candidates"], row["scores"], strict=True):
                if candidate in scores:  # where two are nearly equal, the last candidate may be another
                    fast.append(value)
                    plain.append(scores[candidate])
            changed += answer.text != row["answer"]
        checked += len(rows)
    deviation = float(np.abs(np.subtract(fast, plain)).max() / np.abs(plain).max()) if fast else float("inf")
    return SelfCheck("scores", len(fast), deviation, "answers", changed, checked)
