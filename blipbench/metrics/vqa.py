"""VQA's official accuracy: an answer is right as far as people gave it, overall and by type of answer, in percent.

Each of the ten people is left out in turn; the answer scores min(n / 3, 1) where n of the other nine said the same; the
mean of the ten is its accuracy. Answers, the model's too, are normalised only where people's own, as typed, are not all
the same: so does the official tool (its oldest forms differ in whose answers they normalise how far).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blipbench.metrics import bootstrap
from blipbench.metrics.metric import Metric, Metrics
from blipbench.metrics.vqa_normalise import normalise_answer, tidy

_ENOUGH = 3  # people who must agree for full marks


def vqa_accuracy(answer: str, ground_truth: Sequence[str]) -> float:
    """Between 0 and 1. `ground_truth` are people's answers as typed: ten in VQAv2. With fewer
    than four of one mind nothing scores 1, as in the official tool."""
    people = [tidy(given) for given in ground_truth]
    answer = tidy(answer)
    if len(set(people)) > 1:
        people = [normalise_answer(given) for given in people]
        answer = normalise_answer(answer)
    same = people.count(answer)
    left_out_agrees = same * min(1.0, (same - 1) / _ENOUGH)
    left_out_differs = (len(people) - same) * min(1.0, same / _ENOUGH)
    return (left_out_agrees + left_out_differs) / len(people)


def vqa_metrics(
    answers: Sequence[str],
    ground_truth: Sequence[Sequence[str]],
    answer_types: Sequence[str | None],
    image: npt.NDArray[np.integer],
    *,
    seed: int,
) -> Metrics:
    """`accuracy`, and `accuracy_yes_no`, `accuracy_number`, `accuracy_other` as far as there are such questions.

    All arguments have one entry a question, and there is one at least; a type is None where it is not known. `image`
    [questions] numbers the images, the unit that intervals are resampled over. outcomes: `accuracy` (0 to 1), `image`.
    """
    accuracy = np.array([vqa_accuracy(*pair) for pair in zip(answers, ground_truth, strict=True)])  # [questions]
    _, image = np.unique(image, return_inverse=True)
    images = int(image.max()) + 1
    weights = bootstrap.draw_weights(images, seed)

    def metric(among: npt.NDArray[np.bool_]) -> Metric:
        right = np.bincount(image[among], weights=accuracy[among], minlength=images).astype(np.float64)
        questions = np.bincount(image[among], minlength=images).astype(np.float64)
        drawn = 100 * bootstrap.resampled_ratio(weights, right, questions)
        return Metric(float(100 * accuracy[among].mean()), *bootstrap.interval(drawn))

    values = {"accuracy": metric(np.ones(len(accuracy), bool))}
    known = {kind for kind in answer_types if kind is not None}
    for kind in sorted(known, key=lambda kind: (_ORDER.get(kind, len(_ORDER)), kind)):
        name = "accuracy_" + kind.replace("/", "_").replace(" ", "_")
        values[name] = metric(np.array([of_question == kind for of_question in answer_types]))
    return Metrics(values, {"accuracy": accuracy, "image": image})


_ORDER = {"yes/no": 0, "number": 1, "other": 2}  # as published tables have them
