"""Reads the official training annotations into examples, before any pixel is decoded.

    captioning, retrieval, pre-training   [{"image": "a.jpg", "caption": "..."}], other keys being passed over; a list
                                          of captions, as val files have, counts as several examples
    VQA                                   [{"image", "question", "answer": ["yes", ...], "dataset": "vqa"}]
                                          [{"image", "question", "answer": "yes", "dataset": "vg"}]
    NLVR2                                 [{"sentence", "label": "True" | "False", "images": ["l.png", "r.png"]}]

In: a data folder and annotation files. Out: a `TrainingSet`, whose image files exist. Records are
counted from 1 in messages.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from blipbench.data.files import find_annotation, joint_sha256, read_annotation, require_files
from blipbench.data.nlvr import read_nlvr
from blipbench.data.records import has_half_surrogate, image_path, json_kind, require_fields
from blipbench.data.text import normalise_caption, normalise_question
from blipbench.training.spec import TrainSpec

_ADVICE = "check --data and the names in the annotation"
GENOME_WEIGHT = 0.2  # of a Visual Genome question's only answer, in the reference's VQA data set


class CaptionExample(NamedTuple):
    image: int
    caption: str


class VqaExample(NamedTuple):
    """Each different answer once, with its share of all that were given."""

    image: int
    question: str
    answers: tuple[str, ...]
    weights: tuple[float, ...]


class NlvrExample(NamedTuple):
    left: int
    right: int
    sentence: str
    label: bool


Example: TypeAlias = CaptionExample | VqaExample | NlvrExample


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Images are numbered; equal numbers are the same file. `sha256` covers all annotation files."""

    names: list[str]  # [images] as written in the annotation
    paths: list[Path]  # [images]
    examples: Sequence[Example]
    sha256: str

    def describe(self, example: int) -> str:
        """One example in a line, for messages."""
        found = self.examples[example]
        if isinstance(found, NlvrExample):
            return f"{self.names[found.left]}, {self.names[found.right]}: {_text(found)!r}"
        return f"{self.names[found.image]}: {_text(found)!r}"

    def images_of(self, rows: Sequence[int]) -> list[int]:
        """The image of each of these examples; of two images, the one that comes first in the annotation."""
        examples = (self.examples[row] for row in rows)
        return [min(e.left, e.right) if isinstance(e, NlvrExample) else e.image for e in examples]

    def lengths_of(self, rows: Sequence[int]) -> list[int]:
        """About how many tokens the text of each of these examples has: its words; of a VQA example, the question's."""
        return [_text(self.examples[row]).count(" ") + 1 for row in rows]


def _text(example: Example) -> str:
    if isinstance(example, NlvrExample):
        return example.sentence
    return example.caption if isinstance(example, CaptionExample) else example.question


def read_training_set(spec: TrainSpec, root: Path) -> TrainingSet:
    """All examples of a run. Raises DataError if a file is missing or malformed, or an image is missing or empty."""
    files = [find_annotation(root, name, spec.name) for name in spec.data.annotations]
    if spec.kind == "nlvr":
        return _read_statements(spec, root, files)
    return _read_records(spec, root, files, _vqa_examples if spec.kind == "vqa" else _caption_examples)


def answer_weights(answers: Sequence[str]) -> dict[str, float]:
    """Each different answer's share of all that were given (BLIP's VQA finetuning; ten people answer each question)."""
    return {answer: count / len(answers) for answer, count in Counter(answers).items()}


_Maker: TypeAlias = Callable[[TrainSpec, int, dict[str, Any]], list[Example]]


def _read_records(spec: TrainSpec, root: Path, files: Sequence[Path], make: _Maker) -> TrainingSet:
    place: dict[str, int] = {}  # path -> image
    names: list[str] = []
    examples: list[Example] = []
    hashes: list[str] = []
    problems: list[str] = []
    for file in files:
        records, sha256 = read_annotation(file, _EXPECTED[make])
        hashes.append(sha256)
        for number, record in enumerate(records, start=1):
            try:
                require_fields(record, (), _EXPECTED[make])
                path = image_path(record.get("image"))
                image = place.setdefault(path, len(place))
                if image == len(names):
                    names.append(record["image"])
                examples += make(spec, image, record)
            except ValueError as error:
                problems.append(f"{file}: record {number}: {error}")
    named = list(zip(names, place, strict=True))
    sources = require_files(root, named, spec.name, problems, _ADVICE)
    paths = [path for (path,) in sources]
    return TrainingSet(names, paths, examples, joint_sha256(hashes))


def _read_statements(spec: TrainSpec, root: Path, files: Sequence[Path]) -> TrainingSet:
    names: list[str] = []
    paths: list[Path] = []
    examples: list[Example] = []
    hashes: list[str] = []
    for file in files:
        read = read_nlvr(root, file, name=spec.name, split="train", max_words=spec.data.max_words, advice=_ADVICE)
        first = len(names)
        names += read.images
        paths += [file for (file,) in read.sources]
        hashes.append(read.annotation_sha256)
        for sentence, label, pair in zip(read.sentences, read.labels, read.pair_of_sentence, strict=True):
            left, right = read.pairs[pair]
            examples.append(NlvrExample(first + left, first + right, sentence, label))
    return TrainingSet(names, paths, examples, joint_sha256(hashes))


def _caption_examples(spec: TrainSpec, image: int, record: dict[str, Any]) -> list[Example]:
    captions = record.get("caption")
    if isinstance(captions, str):
        captions = [captions]
    texts = _texts("caption", captions)
    prompt, max_words = spec.data.prompt, spec.data.max_words
    return [CaptionExample(image, prompt + normalise_caption(text, max_words)) for text in texts]


def _vqa_examples(spec: TrainSpec, image: int, record: dict[str, Any]) -> list[Example]:
    question, answers = record.get("question"), record.get("answer")
    if not isinstance(question, str) or has_half_surrogate(question):
        raise ValueError(f"'question' is {json_kind(question)}, not text")
    genome = isinstance(answers, str)  # Visual Genome: one person's answer, where VQA has ten people's
    given = _texts("answer", [answers] if genome else answers)
    weights = {given[0]: GENOME_WEIGHT} if genome else answer_weights(given)
    normalised = normalise_question(question, spec.data.max_words)
    return [VqaExample(image, normalised, tuple(weights), tuple(weights.values()))]


def _texts(field: str, values: Any) -> list[str]:
    if not isinstance(values, list) or not values:
        raise ValueError(f"{field!r} is {'an empty list' if values == [] else json_kind(values)}, not text")
    for value in values:
        if not isinstance(value, str) or has_half_surrogate(value):
            raise ValueError(f"{field!r} is {json_kind(value)}, not text")
    return values


_EXPECTED: dict[_Maker, str] = {
    _caption_examples: 'expected a list of {"image": "a.jpg", "caption": "..."}',
    _vqa_examples: 'expected a list of {"image": "a.jpg", "question": "...", "answer": ["...", ...]}',
}
