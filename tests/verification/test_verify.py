"""The verification passes where this machine computes what the reference does, and names what deviates elsewhere."""

import json
import math
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from goldens import Golden
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from blipbench.config.paths import PACKAGE
from blipbench.device import PRECISIONS, make_runtime
from blipbench.doctor import exit_status
from blipbench.verification import kernels
from blipbench.verification.finding import BOUNDS, Finding, compared, relative_deviation
from blipbench.verification.goldens import FOLDER, Goldens
from blipbench.verification.models import differing
from blipbench.verification.verify import verify

MODEL_LINES = ["ITC similarities", "ITM scores", "captions", "ranked answers", "NLVR logits"]
KERNEL_LINES = ["attention kernel", "LayerNorm kernel"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "goldens"))


def findings_of(precision: str = "fp32", folder: Path = FOLDER) -> dict[str, Finding]:
    return {found.name: found for found in verify(make_runtime("cpu", precision), Goldens(folder))}


def corrupt(folder: Path, checkpoint: str, weight: str) -> None:
    path = folder / f"tiny_{checkpoint}.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors[weight] *= -1
    save_file(tensors, path, metadata=metadata)


# What passes


@pytest.mark.parametrize("precision, bound", [("fp32", 1e-5), ("bf16", 1e-1)])
def test_this_machine_computes_what_the_reference_does(precision: str, bound: float) -> None:
    found = findings_of(precision)
    assert list(found) == [*MODEL_LINES, *KERNEL_LINES]
    assert exit_status(list(found.values())) == 0
    for name in MODEL_LINES:
        assert found[name].bound == bound
        assert 0 < (found[name].deviation or 0) < bound, name


def test_float32_gives_the_references_tokens_and_order() -> None:
    found = findings_of()
    assert found["captions"].detail.endswith("0 of 370 tokens differ")
    assert found["ranked answers"].detail.endswith("0 of 200 ranks differ")


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the kernels run")
def test_without_a_gpu_the_kernels_are_skipped_and_the_line_says_why() -> None:
    for found in kernels.check_kernels(make_runtime("cpu", "fp32")):
        assert (found.status, found.deviation) == ("ok", None)
        assert found.detail.startswith("skipped: ") and "a CPU computes with torch's own operators" in found.detail


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_in_tritons_interpreter_the_kernels_equal_torch(precision: str) -> None:
    script = "import json, dataclasses; from blipbench.device import make_runtime; "
    script += "from blipbench.verification.kernels import check_kernels; "
    script += f"print(json.dumps([dataclasses.asdict(x) for x in check_kernels(make_runtime('cpu', '{precision}'))]))"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}  # Triton decides at its import
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [(one["name"], one["status"]) for one in found] == [(name, "ok") for name in KERNEL_LINES]
    assert all(0 < one["deviation"] < one["bound"] for one in found)


def test_lower_precision_only_counts_what_differs() -> None:
    found = findings_of("bf16")
    assert found["captions"].detail.endswith(" tokens differ, which bf16 allows")
    assert found["ranked answers"].detail.endswith(" ranks differ, which bf16 allows")


def test_every_precision_has_bounds() -> None:
    assert set(BOUNDS) == set(kernels.BOUNDS) == set(PRECISIONS)


# What fails


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "checkpoint, weight, lines",
    [
        ("retrieval", "text_proj.weight", ["ITC similarities"]),
        ("retrieval", "itm_head.weight", ["ITM scores"]),
        ("vqa", "text_decoder.cls.predictions.transform.dense.weight", ["ranked answers"]),
        ("nlvr", "cls_head.2.weight", ["NLVR logits"]),
    ],
)
def test_a_corrupted_weight_fails_the_lines_that_it_reaches(
    copy: Path, checkpoint: str, weight: str, lines: list[str], precision: str
) -> None:
    corrupt(copy, checkpoint, weight)
    found = findings_of(precision, copy)
    assert [name for name, finding in found.items() if finding.status == "fail"] == lines
    assert exit_status(list(found.values())) == 1


def test_another_caption_than_the_references_fails_in_float32(copy: Path) -> None:
    corrupt(copy, "caption", "text_decoder.cls.predictions.transform.dense.weight")
    found = findings_of(folder=copy)["captions"]
    assert found.status == "fail" and not found.detail.endswith(" 0 of 370 tokens differ")


def test_a_check_that_breaks_off_is_a_failure_and_the_others_run(copy: Path) -> None:
    cases = json.loads((copy / "cases.json").read_text())
    del cases["vqa"]
    (copy / "cases.json").write_text(json.dumps(cases))
    found = findings_of(folder=copy)
    assert found["ranked answers"].detail == "broke off: KeyError: 'vqa'"
    assert [name for name, finding in found.items() if finding.status == "fail"] == ["ranked answers"]


def test_nan_is_out_of_bounds() -> None:
    deviation = relative_deviation(torch.tensor([1.0, math.nan]), torch.tensor([1.0, 2.0]))
    found = compared("x", deviation, 1.0)
    assert (found.status, found.deviation) == ("fail", None)


def test_a_token_too_many_or_too_few_differs() -> None:
    assert differing([1, 2, 3], [1, 2, 3]) == 0
    assert differing([1, 2, 4], [1, 2, 3]) == 1
    assert differing([1, 2, 3, 4], [1, 3]) == 3


# Progress


def test_progress_is_silent_for_the_first_two_seconds() -> None:
    times = iter([0.0, 0.5, 1.0, 1.9, 2.5, 3.0])
    seen: list[tuple[int, int]] = []
    verify(make_runtime("cpu", "fp32"), Goldens(FOLDER), lambda *done: seen.append(done), lambda: next(times))
    assert seen == [(4, 5), (5, 5)]


# What ships


def test_the_wheel_has_the_goldens_and_they_are_below_two_megabytes() -> None:
    wheel = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == [PACKAGE.name] and "exclude" not in wheel
    assert FOLDER == PACKAGE / "goldens"
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 2_000_000


def test_what_is_expected_is_an_excerpt_of_the_tests_goldens(golden: Golden) -> None:
    cases, expected = Goldens(FOLDER).cases, Goldens(FOLDER).expected
    files = [path.name for path in golden.pictures()]
    retrieval, caption, vqa, nlvr = (golden.json(case) for case in ("retrieval_k12", "caption", "vqa", "nlvr"))

    texts = len(cases["retrieval"]["texts"])
    assert cases["retrieval"]["texts"] == retrieval["texts"][:texts]
    assert cases["retrieval"]["pictures"] == [files[i] for i in retrieval["images"]]
    tensors = golden.tensors("retrieval_k12")
    image, text = expected["match_pairs"].long().T
    assert torch.equal(expected["itc"], tensors["similarity_i2t"][:, :texts])
    assert torch.equal(expected["match_scores"], tensors["score_i2t"][image, text])
    assert (expected["match_scores"] > -100).all()

    assert cases["caption"]["prompt"] == caption["prompt"]
    assert cases["caption"]["pictures"] == [files[i] for i in caption["images"]]
    without_text = [{k: v for k, v in case.items() if k != "captions"} for case in caption["cases"]]
    assert all(search in without_text for search in cases["caption"]["searches"])

    assert (cases["vqa"]["questions"], cases["vqa"]["answers"]) == (vqa["questions"], vqa["answer_list"])
    assert cases["vqa"]["pictures"] == [files[i] for i in vqa["images"]]
    assert torch.equal(expected["answer_scores"], golden.tensors("vqa")["k20_log_prob_sums"])

    assert cases["nlvr"]["sentences"] == nlvr["sentences"]
    assert cases["nlvr"]["left"] == [files[i] for i in nlvr["images0"]]
    assert cases["nlvr"]["right"] == [files[i] for i in nlvr["images1"]]
    assert torch.equal(expected["nlvr_logits"], golden.tensors("nlvr")["logits"])
