"""`blipbench profile`, as a user types it: what it writes, and what it refuses."""

import json
from pathlib import Path

import pytest
from command_line import blipbench
from goldens import GOLDEN, Golden

TINY = ("--model", "tiny", "--seconds", "0")


def test_a_profile_is_printed_saved_drawn_and_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = ("--plot", "p/roofline.png", "--trace", "p/trace.json", "--pytest-benchmark", "p/benchmark.json")
    done = blipbench("profile", *TINY, "--part", "vit,itm", "--batch", "1,2", "--amp", *files)
    assert done.exit_code == 0, done.output
    assert "bound by" in done.stdout
    saved = json.loads(Path("runs/profile/quick/profile.json").read_text())
    assert [(part["part"], part["batch"], part["precision"]) for part in saved["parts"]] == [
        (part, batch, precision) for part in ("vit", "itm") for batch in (1, 2) for precision in ("fp32", "bf16")
    ]
    assert sorted(path.name for path in Path("p").iterdir()) == [
        "benchmark.json",
        "roofline.png",
        "roofline_batches.png",
        "trace.json",
    ]
    assert any(
        event["name"] == "vit, fp32, batch 1" for event in json.loads(Path("p/trace.json").read_text())["traceEvents"]
    )
    shown = blipbench("table", "runs")
    assert shown.exit_code == 0, shown.output
    assert "itm" in shown.stdout


def test_json_is_the_saved_profile(tmp_path: Path) -> None:
    done = blipbench("profile", *TINY, "--part", "vit-mlp", "--out", str(tmp_path), "--json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "quick" / "profile.json").read_text())


def test_a_checkpoint_of_ones_own(tmp_path: Path) -> None:
    sizes = ("--ckpt", str(GOLDEN / "tiny_retrieval.pth"), "--model", str(Golden.model))
    done = blipbench("profile", *sizes, "--seconds", "0", "--part", "itm", "--out", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["model"]["sha256"]) == 64


def test_a_file_of_parts(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("parts: [vit-mlp]\nbatch: [3]\nseconds: 0\n")
    done = blipbench("profile", str(tmp_path / "mine.yaml"), "--model", "tiny", "--out", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "mine" / "profile.json").read_text())["parts"][0]["batch"] == 3


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--part", "vitt"), "--part vitt: there is no such part; did you mean vit"),
        (("--batch", "0"), "0 is not in the range x>=1"),
        (("--batch", "one"), "'one' is not a whole number"),
        (("--precision", "fp31"), "'fp31' is not one of fp32, tf32, bf16, fp16"),
        (("--precision", "fp16"), "--precision fp16 requires a GPU"),
        (("--amp", "--precision", "fp32"), "--amp means --precision fp32,bf16"),
        (("--attention", "flash"), "--attention chooses between kernels of a GPU"),
        (("--image-size", "50"), "--image-size 50: it must be a multiple of the patch size"),
        (("quickk",), "unknown profile 'quickk'"),
    ],
)
def test_wrong_use_is_refused_at_once(tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    done = blipbench("profile", "--model", "tiny", "--device", "cpu", "--out", str(tmp_path), *flags)
    assert done.exit_code == 2, done.output
    assert message in done.output.replace("\n", " ")


def test_a_checkpoint_without_the_head_of_a_part(tmp_path: Path) -> None:
    sizes = ("--ckpt", str(GOLDEN / "tiny_caption.pth"), "--model", str(Golden.model))
    done = blipbench("profile", *sizes, "--seconds", "0", "--part", "itm", "--out", str(tmp_path))
    assert done.exit_code == 2
    assert "itm_head" in done.output


def test_a_trace_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    trace = ("--trace", str(tmp_path / "file" / "trace.json"))
    done = blipbench("profile", *TINY, "--part", "vit-mlp", "--out", str(tmp_path), *trace)
    assert done.exit_code == 1
    assert "trace.json: cannot be written" in done.output
