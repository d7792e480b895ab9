"""BLIP's Table 1 on a small scale: the effect of CapFilt on models pre-trained on the shapes world's noisy web texts.

    make capfilt-ablation        (SEEDS="0 1 2", data in demo/world)

For each seed, following section 3.3 and Table 1 of arXiv:2201.12086:

    off         pre-train on the web texts, of which a known share is wrong or irrelevant: LM, then all three losses
    captioner   this model, finetuned for captioning on the clean set; filter: the same for retrieval
    texts       `blipbench capfilt` with the filter, with the captioner, with both
    filter, captioner, both     pre-train again on each of these sets of texts

Each of the four models is then evaluated without finetuning, on retrieval and captioning of the test split. All
pre-training runs of a seed take the same number of steps from the same weights: a random text model, and the image
encoder of the bundled model (the paper starts from an encoder trained on ImageNet). The result is a Markdown page with
the mean and the standard deviation over the seeds. WORK contains all models and texts. A second call resumes the first.
"""

import argparse
import concurrent.futures
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blipbench.config.paths import bundled_checkpoints

VARIANTS = ("off", "filter", "captioner", "both")  # Table 1's rows
METRICS = {"retrieval_shapes": ("txt_r1", "img_r1"), "caption_shapes": ("CIDEr", "exact")}
WEB = "shapes_web_train.json"
CAPTION_LENGTH = 36  # tokens; the longest texts of the shapes world have 34


@dataclass(frozen=True)
class Experiment:
    """The folders, and the number of training steps (of 16 examples each)."""

    data: Path
    work: Path
    pretrain_steps: int  # with LM alone, and again with all three losses
    finetune_steps: int

    def folder(self, seed: int, name: str) -> Path:
        return self.work / f"seed{seed}" / name

    def checkpoint(self, seed: int, name: str, config: str) -> Path:
        return self.folder(seed, name) / config / "last.safetensors"

    def texts(self, seed: int, variant: str) -> Path:
        """The pre-training texts of a variant, in the data folder, from which training reads its annotations."""
        return self.data / (WEB if variant == "off" else f"capfilt/seed{seed}_{variant}.json")


def blipbench(done: Path, *arguments: str | Path) -> None:
    """Run a command unless its log `done` exists. The log gets this name only after the command has succeeded."""
    if done.exists():
        return
    done.parent.mkdir(parents=True, exist_ok=True)
    started, log = time.monotonic(), done.with_suffix(".unfinished")
    with log.open("w") as file:
        command = [sys.executable, "-m", "blipbench", *map(str, arguments)]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # two commands in parallel beat two threads
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=one_thread).returncode
    if code:
        raise SystemExit(f"{' '.join(command)}\nfailed with exit code {code}. End of {log}:\n{log.read_text()[-2000:]}")
    log.rename(done)
    print(f"{done.with_suffix('')}: {time.monotonic() - started:.0f} s", file=sys.stderr)


def train(experiment: Experiment, seed: int, name: str, config: str, *more: str | Path) -> None:
    folder = experiment.folder(seed, name)
    common = ("--data", experiment.data, "--out", folder, "--seed", str(seed), "--fresh")
    order = ("--set", "epochs=1000", "--set", "by_length=false")
    blipbench(folder / f"train_{config}.log", "train", config, *common, *order, *more)


def pretrain(experiment: Experiment, seed: int, variant: str) -> None:
    texts = experiment.texts(seed, variant).relative_to(experiment.data)
    few = ("--set", f"max_steps={experiment.pretrain_steps}", "--set", "warmup_steps=100")
    common = ("--set", f"data.annotations={texts}", *few)
    vision = ("--vit", bundled_checkpoints()["shapes_base"], "--set", "lr=1.5e-3")  # random text model
    train(experiment, seed, variant, "caption_shapes", *vision, *common)
    captioner = ("--init", experiment.checkpoint(seed, variant, "caption_shapes"), "--set", "lr=1.0e-3")
    whole = ("--set", "neighbours=1", "--set", "freeze_vision=false", "--set", "cache_embeds=false")  # also the ViT
    train(experiment, seed, variant, "pretrain_shapes", *captioner, *whole, *common)


def bootstrap(experiment: Experiment, seed: int) -> None:
    """Make the model without CapFilt, finetune captioner and filter from it, and make the three sets of texts."""
    pretrain(experiment, seed, "off")
    start = ("--init", experiment.checkpoint(seed, "off", "pretrain_shapes"))
    steps = ("--set", f"max_steps={experiment.finetune_steps}", "--set", "batch_size=16", "--set", "cache_pixels=false")
    train(experiment, seed, "captioner_model", "caption_shapes", *start, *steps, "--set", "lr=1.0e-3")
    train(experiment, seed, "filter_model", "retrieval_shapes", *start, *steps, "--set", "evaluate=null")
    captioner = ("--captioner", experiment.checkpoint(seed, "captioner_model", "caption_shapes"))
    matcher = ("--filter", experiment.checkpoint(seed, "filter_model", "retrieval_shapes"))
    sampling = ("--prompt", "", "--max-length", str(CAPTION_LENGTH), "--repetition-penalty", "1.0")
    for variant, models in {"filter": matcher, "captioner": captioner, "both": (*captioner, *matcher)}.items():
        out = experiment.texts(seed, variant)
        common = ("--data", experiment.data / WEB, "--out", out, "--seed", str(seed), "--fresh")
        blipbench(out.with_suffix(".log"), "capfilt", *models, *common, *sampling)


def measure(experiment: Experiment, seed: int, variant: str) -> None:
    """Pre-train, unless it is already done, and evaluate."""
    pretrain(experiment, seed, variant)
    folder = experiment.folder(seed, variant)
    checkpoint = experiment.checkpoint(seed, variant, "pretrain_shapes")
    common = ("--ckpt", checkpoint, "--data", experiment.data, "--out", folder / "runs", "--fresh")
    blipbench(folder / "run.log", "run", *METRICS, *common)


def figures(experiment: Experiment, seed: int, variant: str) -> dict[str, float]:
    """Metrics by name."""
    found: dict[str, float] = {}
    for task, names in METRICS.items():
        file = experiment.folder(seed, variant) / "runs" / task / "last" / "result.json"
        metrics = json.loads(file.read_text())["metrics"]
        found |= {name: float(metrics[name]["value"]) for name in names}
    return found


def counts(experiment: Experiment, seed: int) -> str:
    """How many texts the filter kept, and how many of them are noise (known from the data generator)."""
    rows = json.loads((experiment.data / WEB).read_text())
    truth = json.loads((experiment.data / "shapes_web_truth.json").read_text())
    clean = {row["image"] for row in truth if row["truth"] == "clean"}
    kept = json.loads(experiment.texts(seed, "filter").read_text())
    both = json.loads(experiment.texts(seed, "both").read_text())
    noise = [1 - sum(row["image"] in clean for row in texts) / len(texts) for texts in (rows, kept)]
    return (
        f"{len(rows):,} web texts, {noise[0]:.0%} of them noise. The filter alone kept {len(kept):,}, {noise[1]:.0%} "
        f"of them noise. With the captioner, {len(both):,} web and synthetic texts were kept"
    )


def page(experiment: Experiment, seeds: Sequence[int]) -> str:
    """The Markdown page."""
    names = [name for names in METRICS.values() for name in names]
    lines = [
        "# CapFilt on the shapes world",
        "",
        "BLIP's Table 1 (arXiv:2201.12086) on a small scale. Models are pre-trained on noisy web texts and on the",
        f"texts that CapFilt makes of them: {experiment.pretrain_steps:,} steps of 16 examples with LM, and as many",
        "with all three losses. They are measured on the test split, without finetuning. The table shows the mean and",
        f"the sample standard deviation over {len(seeds)} seeds. `make capfilt-ablation` makes this page, and",
        "`experiments/capfilt_shapes.py` explains what each model starts from.",
        "",
        "| captioner | filter | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for variant in VARIANTS:
        found = [figures(experiment, seed, variant) for seed in seeds]
        cells = [spread([row[name] for row in found]) for name in names]
        marks = ["yes" if variant in (part, "both") else "no" for part in ("captioner", "filter")]
        lines.append("| " + " | ".join([*marks, *cells]) + " |")
    lines += ["", "Every run:", "", "| seed | CapFilt | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for seed in seeds:
        for variant in VARIANTS:
            row = figures(experiment, seed, variant)
            lines.append("| " + " | ".join([str(seed), variant, *(f"{row[name]:.2f}" for name in names)]) + " |")
    lines += ["", *(f"- Seed {seed}: {counts(experiment, seed)}." for seed in seeds)]
    return "\n".join([*lines, ""])


def spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder written by `blipbench data make shapes`")
    parser.add_argument("--work", type=Path, required=True, help="the folder for models and texts")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown page to write")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain-steps", type=int, default=700)
    parser.add_argument("--finetune-steps", type=int, default=300)
    given = parser.parse_args()
    experiment = Experiment(given.data, given.work, given.pretrain_steps, given.finetune_steps)
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        bootstraps = {pool.submit(bootstrap, experiment, seed): seed for seed in given.seeds}
        measured = []
        try:
            for ready in concurrent.futures.as_completed(bootstraps):
                ready.result()
                measured += [pool.submit(measure, experiment, bootstraps[ready], variant) for variant in VARIANTS]
            for done in measured:
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    given.out.write_text(page(experiment, given.seeds))
    print(given.out.read_text())
    print(f"{given.out}: {(time.monotonic() - started) / 60:.0f} minutes", file=sys.stderr)


if __name__ == "__main__":
    main()
