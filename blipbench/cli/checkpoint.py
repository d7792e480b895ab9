"""How `caption`, `ask` and `match` get their model: the checkpoint, and the device and precision to run it in."""

from typing import TYPE_CHECKING

from blipbench.cli.options import precision_of

if TYPE_CHECKING:
    from blipbench.device import Runtime
    from blipbench.models.checkpoint import Checkpoint


def load(ckpt: str, model: str | None, device: str | None, precision: str, amp: bool) -> "tuple[Checkpoint, Runtime]":
    """Takes the values of the options of the same names."""
    from blipbench.config.models import list_model_configs, load_model_config
    from blipbench.device import make_runtime
    from blipbench.models.checkpoint import load_checkpoint
    from blipbench.progress import CountedProgress

    runtime = make_runtime(device, precision_of(precision, amp))
    config = load_model_config(model) if model else None
    with CountedProgress("download", "bytes") as progress:
        checkpoint = load_checkpoint(ckpt, config=config, configs=list_model_configs(), progress=progress)
    return checkpoint, runtime
