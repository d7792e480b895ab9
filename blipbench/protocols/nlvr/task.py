"""The definition of a task of reasoning over two images. The protocol of NLVR2 has no settings."""

from typing import Literal

from blipbench.config.task import DataSpec, Spec, Task


class NlvrSettings(Spec):
    """There are no settings."""


class NlvrData(DataSpec):
    reader: Literal["nlvr"]


class NlvrTask(Task):
    protocol: Literal["nlvr"]
    data: NlvrData
    settings: NlvrSettings = NlvrSettings()
