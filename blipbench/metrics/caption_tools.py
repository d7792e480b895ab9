"""The three Java programs of the COCO caption evaluation: PTB tokenizer, METEOR 1.5 and SPICE 1.0, from pycocoevalcap.

Takes captions and returns tokens or scores. Each call starts one JVM. A JavaError says what failed. This module
replaces pycocoevalcap's wrappers, whose METEOR hangs or dies with a broken pipe, whose SPICE fails with recent Java
versions, and which write files into the installed package. Their SPICE cache is not used: it requires native code and
changes no score.
"""

import dataclasses
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocoevalcap.meteor import meteor as meteor_package
from pycocoevalcap.spice import get_stanford_models as spice_package
from pycocoevalcap.tokenizer import ptbtokenizer as tokenizer_package

from blipbench.metrics.java import JavaError, Programs, ask_java, run_java

# Time limits, far above what the largest benchmark needs. METEOR's limit is for one answer.
TOKENIZER_SECONDS, METEOR_SECONDS, SPICE_SECONDS = 1800, 600, 4 * 3600

SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
GET_SPICE_MODELS = "python -m pycocoevalcap.spice.get_stanford_models"  # about 400 MB from nlp.stanford.edu

# SPICE's libraries access these packages by reflection. Java 16 and later forbid it by default; Java 8 has no modules.
_OPENED = ("java.lang", "java.math", "java.net", "java.text", "java.util", "java.util.concurrent")
_SPICE_OPTIONS = [
    "-XX:+IgnoreUnrecognizedVMOptions",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
]

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class SpiceScores:
    """`per_image` is None if this Java version cannot write it (see `read_spice`); `mean` then has three digits."""

    mean: float
    per_image: Floats | None


def tokenize(captions: Sequence[str]) -> list[str]:
    """Lower-case tokens separated by spaces, without punctuation, as in the COCO evaluation."""
    jar = _beside(tokenizer_package) / tokenizer_package.STANFORD_CORENLP_3_4_1_JAR
    lines = [" ".join(caption.splitlines()) for caption in captions]  # one line per caption
    arguments = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    stdin = "".join(line + "\n" for line in lines).encode("utf-8", errors="replace")
    printed, failure = run_java(arguments, name="the PTB tokenizer", stdin=stdin, timeout=TOKENIZER_SECONDS)
    if failure:
        raise JavaError(failure)
    tokenized = printed.removesuffix("\n").split("\n") if lines else []
    if len(tokenized) != len(lines):
        raise JavaError(f"the PTB tokenizer returned {len(tokenized)} lines for {len(lines)} captions")
    dropped = frozenset(tokenizer_package.PUNCTUATIONS)
    return [" ".join(token for token in line.split(" ") if token and token not in dropped) for line in tokenized]


def meteor(
    captions: Sequence[str], references: Sequence[Sequence[str]], programs: Programs | None = None
) -> tuple[float, Floats]:
    """METEOR of all images together, and of each image [images]. The first is not the mean of the second.

    `captions` and `references` must be tokenized.
    """
    jar = _beside(meteor_package) / meteor_package.METEOR_JAR
    arguments = ["-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    with ask_java(arguments, name="METEOR", timeout=METEOR_SECONDS, programs=programs) as ask:
        counts = [
            ask(" ||| ".join(["SCORE", *map(_without_bars, of_image), _without_bars(caption)]))
            for caption, of_image in zip(captions, references, strict=True)
        ]
        answers = [ask(" ||| ".join(["EVAL", *counts])), *(ask("") for _ in counts)]
    try:
        *per_image, whole = map(float, answers)
    except ValueError as error:
        raise JavaError(f"METEOR returned something other than a score: {error}") from error
    if not math.isfinite(whole):
        raise JavaError(f"METEOR returned {whole} instead of a number")
    return whole, np.array(per_image)


def missing_spice_models() -> list[Path]:
    """The model files that SPICE requires, that pycocoevalcap does not include and that are not installed."""
    return [path for name in SPICE_MODELS if not (path := _beside(spice_package) / "lib" / name).is_file()]


def spice(
    captions: Sequence[str], references: Sequence[Sequence[str]], programs: Programs | None = None
) -> SpiceScores:
    """SPICE of tokenized captions, between 0 and 1. Raises JavaError, for example if its models are missing."""
    if missing := missing_spice_models():
        raise JavaError(f"its models are missing ({missing[0].name}); `{GET_SPICE_MODELS}` downloads them (400 MB)")
    pairs = enumerate(zip(captions, references, strict=True))
    images = [{"image_id": n, "test": caption, "refs": list(of_image)} for n, (caption, of_image) in pairs]
    with tempfile.TemporaryDirectory(prefix="blipbench-spice-") as folder:
        input_file, output_file = Path(folder) / "captions.json", Path(folder) / "scores.json"
        input_file.write_text(json.dumps(images), encoding="utf-8")
        jar = _beside(spice_package) / "spice-1.0.jar"
        arguments = [*_SPICE_OPTIONS, "-Xmx8G", "-jar", str(jar), str(input_file), "-out", str(output_file)]
        printed, failure = run_java(arguments, name="SPICE", timeout=SPICE_SECONDS, programs=programs)
        written = output_file.read_text(encoding="utf-8") if output_file.is_file() else ""
    return read_spice(written, printed, failure, len(images))


def read_spice(written: str, printed: str, failure: str | None, images: int) -> SpiceScores:
    """The scores from SPICE's output file, or, if there is no file, the mean that it printed.

    SPICE writes the file through a JavaScript engine, which only Java 14 and earlier include. It prints the mean first.
    """
    if written:
        scores: list[dict[str, Any]] = json.loads(written)
        f_score = {score["image_id"]: score["scores"]["All"]["f"] for score in scores}
        per_image = np.array([f_score[image] for image in range(images)], dtype=np.float64)
        return SpiceScores(float(per_image.mean()), per_image)
    for line in printed.splitlines():
        label, _, rest = line.strip().partition(":")
        if label == "f-score":
            return SpiceScores(float(rest.split()[0]), None)
    raise JavaError(failure or "SPICE printed no score")


def _beside(module: Any) -> Path:
    return Path(module.__file__).parent


def _without_bars(caption: str) -> str:
    """Remove |||, which separates the fields of METEOR's input lines."""
    return caption.replace("|||", "").replace("  ", " ")
