"""The official VQA accuracy in percent, overall and by answer type: agreement with the answers of ten people.

Each of the ten people is left out in turn. The answer scores min(n / 3, 1) if n of the other nine gave the same answer.
Its accuracy is the mean of the ten scores. All answers, including the model's, are normalised only if the people's raw
answers differ. This is what the official tool does (its oldest versions differ in which answers they normalise).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blipbench.metrics import bootstrap
from blipbench.metrics.metric import Metric, Metrics
from blipbench.metrics.vqa_normalise import normalise_answer, tidy

_ENOUGH = 3  # of the other nine people, who must agree for a score of 1


def vqa_accuracy(answer: str, ground_truth: Sequence[str]) -> float:
    """The accuracy of one answer, between 0 and 1. `ground_truth` are people's raw answers: ten in VQAv2.

    An answer scores 1 only if at least four people gave it, as in the official tool.
    """
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
    """`accuracy`, and `accuracy_yes_no`, `accuracy_number`, `accuracy_other` if there are questions of these types.

    All arguments have one entry per question, at least one. An unknown answer type is None. `image` [questions] is the
    number of each question's image, the unit of resampling. outcomes: `accuracy` (0 to 1), `image`.
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


_ORDER = {"yes/no": 0, "number": 1, "other": 2}  # the order in published tables
