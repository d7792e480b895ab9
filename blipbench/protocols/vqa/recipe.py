"""Binds VQA to the files of VQAv2 and to a BLIP model with a question encoder and an answer decoder."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blipbench.data.files import find_annotation
from blipbench.data.vqa import VqaDataset, read_vqa
from blipbench.device import Runtime
from blipbench.inference.answering import Answerer, BlipVqaRunner
from blipbench.inference.attention import Indices
from blipbench.inference.generated import GeneratedAnswers
from blipbench.inference.ranked import RankedAnswers
from blipbench.inference.search import SearchSettings
from blipbench.models.blip import BlipVqa
from blipbench.models.checkpoint import Checkpoint, load_weights
from blipbench.models.tokenizer import load_tokenizer
from blipbench.protocols.base import Protocol
from blipbench.protocols.recipe import Recipe, annotation_of, at_image_size, file_of_split
from blipbench.protocols.vqa.score import score
from blipbench.protocols.vqa.self_check import check_sample
from blipbench.protocols.vqa.stages import ANSWER_ROWS, AnswerStage
from blipbench.protocols.vqa.task import VqaTask


def read(task: VqaTask, root: Path, split: str, limit: int | None) -> VqaDataset:
    annotation = find_annotation(root, annotation_of(task, split), task.name)
    return read_vqa(
        root,
        annotation,
        name=task.name,
        split=split,
        max_words=task.data.max_words,
        limit=limit,
        answer_list=task.data.answer_list if task.settings.mode == "rank" else None,
        ground_truth=file_of_split(task.data.ground_truth, split),
        needs_answers=split in task.data.public,
    )


def load(task: VqaTask, checkpoint: Checkpoint, runtime: Runtime) -> BlipVqaRunner:
    model = BlipVqa(at_image_size(task, checkpoint.config))
    load_weights(model, checkpoint, task.name)
    return BlipVqaRunner(model, load_tokenizer(checkpoint.vocab), runtime)


def build(task: VqaTask, model: BlipVqaRunner, dataset: VqaDataset, workers: int) -> Protocol:
    question_ids = model.tokenize_questions(dataset.questions, task.settings.max_tokens)
    unknown = model.tokenizer.unknown_share(question_ids)
    return build_vqa(model, dataset, _answerer(task, model, dataset, question_ids), workers, unknown)


def build_vqa(
    model: BlipVqaRunner, dataset: VqaDataset, answerer: Answerer, workers: int, unknown_tokens: float = 0.0
) -> Protocol:
    """`answerer` answers the questions of the data set, given by their indices."""
    stage = AnswerStage(model, dataset, answerer, workers)
    return Protocol([stage], score, functools.partial(check_sample, model, dataset, answerer), unknown_tokens)


def _answerer(task: VqaTask, model: BlipVqaRunner, dataset: VqaDataset, question_ids: list[list[int]]) -> Answerer:
    settings = task.settings
    if settings.mode == "rank":
        return RankedAnswers(model, question_ids, dataset.answer_list, settings.k_test)
    search = SearchSettings(
        num_beams=settings.num_beams, max_length=settings.max_length, min_length=settings.min_length
    )
    padded_lengths = batch_lengths(question_ids, settings.padding_batch) if settings.attend_padding else None
    return GeneratedAnswers(model, question_ids, search, padded_lengths)


def batch_lengths(question_ids: Sequence[Sequence[int]], batch: int) -> Indices:
    """The length that each question is padded to if `batch` consecutive questions are padded together."""
    lengths = np.array([len(ids) for ids in question_ids])
    longest = np.maximum.reduceat(lengths, np.arange(0, len(lengths), batch))
    return np.repeat(longest, batch)[: len(lengths)]


VQA = Recipe(read, load, build, score, texts=lambda dataset: dataset.questions, stages={"answer": ANSWER_ROWS})
