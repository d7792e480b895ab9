"""Questions: each has the answer that the picture gives, read by other means; people agree; no wording is a tip."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from shapes_reader import PHRASES, holds

from blipbench.metrics.vqa import vqa_accuracy
from blipbench.shapes.questions import ANSWER_LIST, Question, answers_of_people, ask
from blipbench.shapes.sampling import sample_scene, scene_rng
from blipbench.shapes.scene import COLOURS, SHAPES, Figure, Scene

SEED = 3
SCENES = 300

COLOUR, SHAPE = f"({'|'.join(COLOURS)})", f"({'|'.join(SHAPES)})"
THE = rf"the {COLOUR} {SHAPE}(?:e?s)?"
PHRASE = f"({'|'.join(sorted(PHRASES, key=len, reverse=True))})"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(SEED, "test", index) for index in range(SCENES)]


@pytest.fixture(scope="module")
def asked(scenes: list[Scene]) -> list[list[Question]]:
    return [ask(scene, scene_rng(SEED, "test", index, 2), 5) for index, scene in enumerate(scenes)]


def figure(scene: Scene, colour: str, shape: str) -> Figure:
    (found,) = [f for f in scene.figures if (f.colour, f.shape) == (colour, shape)]
    return found


def related(scene: Scene, phrase: str, first: Figure, second: Figure) -> bool:
    kind, is_reversed = PHRASES[phrase]
    return holds(scene, kind, second, first) if is_reversed else holds(scene, kind, first, second)


def number(scene: Scene, shape: str, colour: str | None = None) -> int:
    return sum(len(f.places) for f in scene.figures if f.shape == shape and colour in (None, f.colour))


def answer(scene: Scene, question: str) -> str:
    """From the question's words and the drawn outlines; fails where the picture does not give exactly one answer."""

    def match(pattern: str) -> tuple[str, ...] | None:
        found = re.fullmatch(pattern, question)
        return found.groups() if found else None

    if question == "is the background light or dark?":
        return scene.background.tone
    if question == "how many shapes are there?":
        return str(sum(len(f.places) for f in scene.figures))
    if words := match(rf"is there an? {COLOUR} {SHAPE} in the picture\?"):
        return "yes" if number(scene, words[1], words[0]) else "no"
    if words := match(rf"(?:is|are) {THE} (plain|striped|outlined)\?"):
        return "yes" if figure(scene, *words[:2]).texture == words[2].replace("plain", "solid") else "no"
    if words := match(rf"how many (?:{COLOUR} )?{SHAPE}e?s are there\?"):
        return str(number(scene, words[1], words[0]))
    if words := match(rf"what color (?:is|are) the {SHAPE}(?:e?s)?\?"):
        (found,) = [f.colour for f in scene.figures if f.shape == words[0]]
        return found
    if words := match(rf"which shape is {COLOUR}\?"):
        (found,) = [f.shape for f in scene.figures if f.colour == words[0]]
        return found
    if words := match(rf"which is (bigger|smaller), {THE} or {THE}\?"):
        pair = figure(scene, *words[1:3]), figure(scene, *words[3:])
        first_is_it = related(scene, f"{words[0]} than", *pair)
        assert first_is_it != related(scene, f"{words[0]} than", *reversed(pair))
        return pair[0 if first_is_it else 1].shape
    if words := match(rf"are there more {SHAPE}e?s than {SHAPE}e?s\?"):
        assert number(scene, words[0]) != number(scene, words[1])
        return "yes" if number(scene, words[0]) > number(scene, words[1]) else "no"
    if words := match(rf"(?:is|are) {THE} {PHRASE} {THE}\?"):
        first, second = figure(scene, *words[:2]), figure(scene, *words[3:])
        assert related(scene, words[2], first, second) != related(scene, words[2], second, first)
        return "yes" if related(scene, words[2], first, second) else "no"
    words = match(rf"what (is|color is the shape) {PHRASE} {THE}\?")
    assert words, question
    anchor = figure(scene, *words[2:])
    (sought,) = [f for f in scene.figures if f is not anchor and related(scene, words[1], f, anchor)]
    return sought.shape if words[0] == "is" else sought.colour


def test_every_answer_is_the_one_that_the_picture_gives(scenes: list[Scene], asked: list[list[Question]]) -> None:
    wrong = [
        (question, answer(scene, question.text))
        for scene, questions in zip(scenes, asked, strict=True)
        for question in questions
        if answer(scene, question.text) != question.answer
    ]
    assert wrong == []


def test_a_scene_gives_five_different_questions(asked: list[list[Question]]) -> None:
    assert all(len({question.text for question in questions}) == 5 for questions in asked)


def test_every_answer_is_in_the_list_and_every_type_occurs(asked: list[list[Question]]) -> None:
    questions = [question for of_scene in asked for question in of_scene]
    assert {question.answer for question in questions} <= set(ANSWER_LIST)
    shares = {kind: count / len(questions) for kind, count in Counter(q.answer_type for q in questions).items()}
    assert min(shares["yes/no"], shares["number"], shares["other"]) > 0.15


def test_yes_is_as_frequent_as_no(asked: list[list[Question]]) -> None:
    answers = Counter(question.answer for questions in asked for question in questions)
    assert 0.45 < answers["yes"] / (answers["yes"] + answers["no"]) < 0.55


def test_the_question_alone_tells_less_than_half_of_the_answers(asked: list[list[Question]]) -> None:
    """The best guess from other scenes' same questions, and else from those that begin alike."""
    known: dict[str, Counter[str]] = defaultdict(Counter)
    for index in range(1500):
        for question in ask(sample_scene(SEED, "train", index), scene_rng(SEED, "train", index, 2), 5):
            known[question.text][question.answer] += 1
            known[" ".join(question.text.split()[:3])][question.answer] += 1
    right = []
    for question in (question for questions in asked for question in questions):
        votes = known.get(question.text) or known[" ".join(question.text.split()[:3])]
        right.append(votes.most_common(1)[0][0] == question.answer)
    assert np.mean(right) < 0.5


def test_one_person_in_ten_answers_otherwise_and_the_right_answer_still_gets_full_marks() -> None:
    rng = np.random.default_rng(0)
    people = [(right, answers_of_people(Question("?", right), rng)) for right in ANSWER_LIST for _ in range(40)]
    assert all(len(answers) == 10 and vqa_accuracy(right, answers) == 1 for right, answers in people)
    otherwise = np.mean([answer != right for right, answers in people for answer in answers])
    assert 0.07 < otherwise < 0.12


def test_some_who_answer_otherwise_say_the_same_in_other_words() -> None:
    rng = np.random.default_rng(0)
    given = {answer for _ in range(300) for answer in answers_of_people(Question("?", "2"), rng)}
    assert given == {"2", "two", "1", "3"}
