"""Runs all checks of the verification on one device in one precision: `blipbench doctor --verify`.

In: a `Runtime` and the goldens. Out: a list of findings, one line each. A check that breaks off, as it can if torch and
a GPU do not fit together, is a failed finding too, and the others run all the same.
"""

import time
from collections.abc import Callable

from blipbench.device import Runtime
from blipbench.errors import BlipbenchError
from blipbench.verification.finding import BOUNDS, Finding
from blipbench.verification.goldens import Goldens
from blipbench.verification.kernels import check_kernels
from blipbench.verification.models import check_answers, check_captions, check_reasoning, check_retrieval

PATIENCE = 2.0  # seconds without progress on the screen

Progress = Callable[[int, int], None]


def verify(
    runtime: Runtime,
    goldens: Goldens,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Finding]:
    """All findings. `progress` gets (done, total) after each check, once the verification has taken two seconds."""
    bound = BOUNDS[runtime.precision]
    checks: dict[str, Callable[[], list[Finding]]] = {
        "retrieval": lambda: check_retrieval(goldens, runtime, bound),
        "captions": lambda: check_captions(goldens, runtime, bound),
        "ranked answers": lambda: check_answers(goldens, runtime, bound),
        "NLVR logits": lambda: check_reasoning(goldens, runtime, bound),
        "Triton kernels": lambda: check_kernels(runtime),
    }
    findings, start = [], clock()
    for done, (name, check) in enumerate(checks.items(), start=1):
        findings += _outcome(name, check)
        if progress is not None and clock() - start > PATIENCE:
            progress(done, len(checks))
    return findings


def _outcome(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except BlipbenchError:
        raise
    except Exception as error:  # torch and Triton raise errors of many types
        reason = " ".join(f"{type(error).__name__}: {error}".splitlines()[:1])
        return [Finding(name, "fail", f"broke off: {reason}", "see whether torch fits this machine; reinstall it")]
