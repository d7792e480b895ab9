"""The samples of a stage, run on its own."""

from collections.abc import Sequence

from blipbench.protocols.base import Sample, Stage, Unit


def samples_of(stage: Stage, units: Sequence[Unit] | None = None) -> list[Sample]:
    """Those of `units`, by default all. How long the stage waited for images is left out."""
    outcomes = stage.run(stage.units({}) if units is None else units)
    return [outcome for outcome in outcomes if isinstance(outcome, Sample)]
