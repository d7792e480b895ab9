"""Visual question answering: rank a list of answers, or generate one (BLIP, section 5.3).

There is one stage, `answer`. A unit is an image with all its questions.

The samples hold the ground truth, so that they alone decide the score. A split without ground truth (the test split of
VQAv2) has no metrics, only the file for the benchmark's server.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from blipbench.data.dataset import num_frames
from blipbench.data.vqa import VqaDataset
from blipbench.inference.answering import Answer, Answerer, BlipVqaRunner
from blipbench.protocols.base import Outcome, Sample, Samples, Unit
from blipbench.protocols.pixels import Decoded, decode_units

ANSWER_ROWS = pa.schema(
    [
        ("index", pa.int32()),  # of the question in the data set
        ("question_id", pa.int64()),
        ("image", pa.int32()),
        ("name", pa.string()),  # the file of the image
        ("question", pa.string()),
        ("answer", pa.string()),
        ("tokens", pa.list_(pa.int32())),  # of the answer, without [DEC] and [SEP]
        ("candidates", pa.list_(pa.string())),  # the best few, best first
        ("scores", pa.list_(pa.float32())),  # of the candidates
        ("answers", pa.list_(pa.string())),  # ground truth, or null
        ("answer_type", pa.string()),  # according to the ground truth, or null
    ]
)


@dataclasses.dataclass(frozen=True)
class AnswerStage:
    """An answer to every question. A unit is an image with its questions."""

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

    def run(self, units: Sequence[Unit]) -> Iterator[Outcome]:
        sources = [self.dataset.sources[unit.payload[0]] for unit in units]
        for batch in decode_units(units, sources, self.model.vision, self.workers, self.dataset.upright):
            if not isinstance(batch, Decoded):
                yield batch
                continue
            tokens = self.model.encode_images(batch.pixels)
            asked = [unit.payload[1] for unit in batch.units]
            image_of = np.repeat(np.arange(len(asked)), [len(which) for which in asked])
            answers = iter(self.answerer.answer(tokens, np.concatenate(asked), image_of))
            for unit, which in zip(batch.units, asked, strict=True):
                yield Sample(unit.id, [self._row(question, next(answers)) for question in which.tolist()])

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
