"""The errors a user can meet. Each message names the file, field or flag, what was found, and the way out.

The command line prints the message alone (no traceback) and exits with `exit_code`:
1 for something that failed or is incomplete, 2 for wrong usage or things that cannot be compared.
"""


class BlipbenchError(Exception):
    """Something failed that the user can act on."""

    exit_code = 1


class UsageError(BlipbenchError):
    """A flag, a configuration field or a combination of them is wrong."""

    exit_code = 2


class DataError(BlipbenchError):
    """A file of the data set is missing, malformed or hostile."""


class DataProblems(DataError):
    """Several problems of one kind: the message tells the first, `problems` holds all."""

    def __init__(self, message: str, problems: list[str]) -> None:
        super().__init__(message)
        self.problems = problems


class CheckpointError(BlipbenchError):
    """A checkpoint cannot be read, is damaged, or is not what the task needs."""


class SharedError(BlipbenchError):
    """What some rank of a distributed run met, raised on all of them at the same point: they can go on together.

    `is_mine` is true on one rank, the first that met it. Only that rank reports it.
    """

    def __init__(self, message: str, exit_code: int, is_mine: bool) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.is_mine = is_mine
