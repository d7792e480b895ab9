"""The three Java programs of the COCO caption evaluation: PTB tokenizer, METEOR 1.5 and SPICE 1.0, from pycocoevalcap.

In go captions, out come tokens or scores; each call is one JVM. They stand in for pycocoevalcap's own wrappers, whose
METEOR hangs or dies on a broken pipe, whose SPICE fails on a recent Java and whose files lie in the installed package.
A JavaError says what failed. Its SPICE cache is left out: it changes no score and needs native code.
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

# Far above what the largest benchmark takes; METEOR's is for one answer.
TOKENIZER_SECONDS, METEOR_SECONDS, SPICE_SECONDS = 1800, 600, 4 * 3600

SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
GET_SPICE_MODELS = "python -m pycocoevalcap.spice.get_stanford_models"  # some 400 MB from nlp.stanford.edu

# What SPICE's libraries reach into by reflection, which Java forbids from 16 on unless told; Java 8 knows no modules.
_OPENED = ("java.lang", "java.math", "java.net", "java.text", "java.util", "java.util.concurrent")
_SPICE_OPTIONS = [
    "-XX:+IgnoreUnrecognizedVMOptions",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
]

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class SpiceScores:
    """`per_image` is None where this Java lacks what SPICE writes it with; `mean` then has three digits."""

    mean: float
    per_image: Floats | None


def tokenize(captions: Sequence[str]) -> list[str]:
    """Lower-case tokens with a space between, punctuation left out, as the COCO evaluation has them."""
    jar = _beside(tokenizer_package) / tokenizer_package.STANFORD_CORENLP_3_4_1_JAR
    lines = [" ".join(caption.splitlines()) for caption in captions]  # a caption is a line, whatever breaks it
    arguments = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    stdin = "".join(line + "\n" for line in lines).encode("utf-8", errors="replace")
    printed, failure = run_java(arguments, name="the PTB tokenizer", stdin=stdin, timeout=TOKENIZER_SECONDS)
    if failure:
        raise JavaError(failure)
    tokenized = printed.removesuffix("\n").split("\n") if lines else []
    if len(tokenized) != len(lines):
        raise JavaError(f"the PTB tokenizer made {len(tokenized)} lines of {len(lines)} captions")
    dropped = frozenset(tokenizer_package.PUNCTUATIONS)
    return [" ".join(token for token in line.split(" ") if token and token not in dropped) for line in tokenized]


def meteor(
    captions: Sequence[str], references: Sequence[Sequence[str]], programs: Programs | None = None
) -> tuple[float, Floats]:
    """METEOR of the whole and of each image [images], of tokenized captions. The whole is no mean of the images."""
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
        raise JavaError(f"METEOR answered with something other than a score: {error}") from error
    if not math.isfinite(whole):
        raise JavaError(f"METEOR answered {whole}")
    return whole, np.array(per_image)


def missing_spice_models() -> list[Path]:
    """The files that pycocoevalcap does not bring along and that are not there."""
    return [path for name in SPICE_MODELS if not (path := _beside(spice_package) / "lib" / name).is_file()]


def spice(
    captions: Sequence[str], references: Sequence[Sequence[str]], programs: Programs | None = None
) -> SpiceScores:
    """SPICE of tokenized captions, between 0 and 1. Raises JavaError also where its models are missing."""
    if missing := missing_spice_models():
        raise JavaError(f"its models are missing ({missing[0].name}); get them with `{GET_SPICE_MODELS}` (some 400 MB)")
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
    """The scores that SPICE wrote, or else the mean that it printed.

    It writes through a JavaScript engine, which Java has up to 14 only; it prints before it tries.
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
    """METEOR's lines have ||| between their parts."""
    return caption.replace("|||", "").replace("  ", " ")
