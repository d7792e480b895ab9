"""All GPU measurements in one command, which takes at most 7 minutes on one H100 and needs no network.

python tests/benchmarks/gpu.py
python tests/benchmarks/gpu.py --part retrieval --part training
python tests/benchmarks/gpu.py --device cpu --small

Prints the figures as they are measured, and writes them to one JSON file. Each part runs in its own process with its
own time limit, so that a part that fails or hangs costs only itself. Exits with 1 if a part does not end well. The part
"compiled" is measured only if it is named, since torch.compile takes minutes.
"""

import argparse
import contextlib
import dataclasses
import importlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_setup import ROOT, Setup, child_environment, last_lines, sizes_for

SECONDS = 420.0  # of the whole
LEAST_SECONDS = 15.0  # a part that has less is not started
ERROR_LINES = 15
PACKAGES = ("transformers", "timm", "tokenizers", "numpy", "pyarrow", "pillow", "triton")


@dataclasses.dataclass(frozen=True)
class Part:
    """`measure` is the module and the function that yields the part's records. `seconds` is the time limit."""

    name: str
    measure: str
    seconds: float
    by_default: bool = True


# In order of importance, as the last ones are left out if the time is over.
PARTS = (
    Part("doctor", "gpu_command:verify", 90),
    Part("retrieval", "gpu_retrieval:measure", 210),
    Part("command", "gpu_command:measure", 150),
    Part("shapes", "gpu_shapes:measure", 120),
    Part("generation", "gpu_generation:measure", 90),
    Part("profile", "gpu_command:profile", 80),
    Part("training", "gpu_training:measure", 90),
    Part("compiled", "gpu_training:measure_compiled", 400, by_default=False),
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in PARTS]
    parser.add_argument("--part", action="append", choices=names, help="only this part; may be repeated")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes, to try the command")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit of all parts (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench-gpu.json"), help="default: %(default)s")
    parser.add_argument("--records", type=Path, help=argparse.SUPPRESS)  # given: this is the process of one part
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    chosen = [part for part in PARTS if (part.by_default if args.part is None else part.name in args.part)]
    if args.records is not None:
        setup = Setup(args.device, sizes_for(args.device, args.small), args.folder)
        measure_part(chosen[0], setup, args.records)
        return 0
    return measure_all(chosen, args)


def measure_part(part: Part, setup: Setup, records: Path) -> None:
    """Print and save every record at once, so that nothing is lost if a later measurement fails."""
    module, function = part.measure.split(":")
    for record in getattr(importlib.import_module(module), function)(setup):
        print("\n".join(f"  {line}" for line in record.lines), flush=True)
        with records.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": record.name, "ok": record.ok, **record.figures}) + "\n")


def measure_all(parts: list[Part], args: argparse.Namespace) -> int:
    started = time.monotonic()
    about = describe(args.device)
    print(f"{about['device']}, torch {about['torch']}, {about['created']}", flush=True)
    done: list[dict[str, Any]] = []
    for part in parts:
        left = args.seconds - (time.monotonic() - started)
        print(f"\n{part.name}", flush=True)
        if left < LEAST_SECONDS:
            done.append({"part": part.name, "status": "no time left", "records": []})
        else:
            done.append(run_part(part, args, min(part.seconds, left)))
        print(f"  {part.name}: {done[-1]['status']}, {done[-1].get('seconds', 0):.0f} s", flush=True)
        about["seconds"] = time.monotonic() - started
        args.out.write_text(json.dumps({**about, "small": args.small, "parts": done}, indent=1) + "\n")
    print(f"\n{about['seconds']:.0f} s; all figures are in {args.out}")
    return int(any(result["status"] != "done" for result in done))


def run_part(part: Part, args: argparse.Namespace, limit: float) -> dict[str, Any]:
    """The part's status and records. `differs`: it was measured, but a result is not what it has to be."""
    with tempfile.TemporaryDirectory(prefix="bench-gpu-", ignore_cleanup_errors=True) as folder:
        records, errors = Path(folder) / "records", Path(folder) / "errors"
        command = [sys.executable, __file__, "--part", part.name, "--device", args.device]
        command += ["--records", str(records), "--folder", folder, *(["--small"] if args.small else [])]
        start = time.monotonic()
        with errors.open("wb") as stderr:
            process = subprocess.Popen(command, stderr=stderr, env=child_environment(), start_new_session=True)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):  # also what the part started: it has its own session
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lines = records.read_text(encoding="utf-8").splitlines() if records.exists() else []
        found = [json.loads(line) for line in lines]
        result = {"part": part.name, "seconds": time.monotonic() - start, "limit": limit, "records": found}
        if code == 0:
            return {**result, "status": "done" if all(record["ok"] for record in found) else "differs"}
        error = last_lines(errors, ERROR_LINES)
        print("\n".join(f"  {line}" for line in error))
        return {**result, "status": "timed out" if code is None else f"failed with {code}", "error": error}


def describe(device: str) -> dict[str, Any]:
    """The machine and the versions. Exits if there is no such device."""
    from blipbench.device import make_runtime
    from blipbench.errors import BlipbenchError
    from blipbench.evaluation.result import describe_environment, now

    try:
        environment = describe_environment(make_runtime(device, "fp32"), world_size=1)
    except BlipbenchError as error:
        sys.exit(f"error: {error}")
    about = environment.model_dump(exclude={"precision", "world_size"})
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {"created": now(), **about, "cores": os.cpu_count(), "versions": versions}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # blipbench need not be installed
    sys.exit(main())
