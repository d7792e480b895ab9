"""The definition of a task of reasoning over two images. The protocol of NLVR2 has no settings."""

from typing import Literal

from blipbench.config.task import Spec, Task


class NlvrSettings(Spec):
    """There are no settings."""


class NlvrTask(Task):
    protocol: Literal["nlvr"]
    settings: NlvrSettings = NlvrSettings()
