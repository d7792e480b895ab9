"""What is wrong with a data set: a reader lists every problem, and raises all of them together.

A ValueError says what is wrong with a value. The reader adds the file and the record to it, and goes on.
"""

from collections.abc import Sequence

from blipbench.data.dataset import Source
from blipbench.errors import DataError


class DataProblems(DataError):
    """The message states the first problem. `problems` are all, `sources` the images and clips that were found."""

    def __init__(self, message: str, problems: Sequence[str], sources: Sequence[Source]) -> None:
        super().__init__(message)
        self.problems = list(problems)
        self.sources = sources


def refuse_problems(problems: Sequence[str], task: str = "", sources: Sequence[Source] = ()) -> None:
    """Raise DataProblems if there is a problem. `task` is the task whose problems `data verify` can list."""
    if problems:
        rest = len(problems) - 1
        advice = f": `blipbench data verify {task}` lists all" if task else ""
        more = f" (and {rest} more{advice})" if rest else ""
        raise DataProblems(problems[0] + more, problems, sources)
