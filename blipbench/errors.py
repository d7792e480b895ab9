"""The errors a user can meet. Each message names the file, field or flag, what was found, and the way out.

The command line prints only the message, without a traceback, and exits with `exit_code`: 1 if something failed or is
incomplete, 2 for wrong usage or results that cannot be compared.
"""


class BlipbenchError(Exception):
    """An error that the user can do something about."""

    exit_code = 1


class UsageError(BlipbenchError):
    """A flag, a configuration field or a combination of them is wrong."""

    exit_code = 2


class DataError(BlipbenchError):
    """A file of the data set is missing, malformed or hostile."""


class CheckpointError(BlipbenchError):
    """A checkpoint cannot be read, is damaged, or does not fit the task."""


class SharedError(BlipbenchError):
    """An error of one rank of a distributed run, raised on all ranks at the same point, so that they stay in step.


    `is_mine` is true on one rank, the first that met it. Only that rank reports it.
    """

    def __init__(self, message: str, exit_code: int, is_mine: bool) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.is_mine = is_mine
