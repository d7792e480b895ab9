"""What a user sees, and the exit code, when what they give is wrong: here by the example of retrieval.

What every protocol can meet (files missing or cut short, ids twice, another kind of checkpoint) is in
`test_every_protocol.py`.
"""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from command_line import GOLDEN_TASKS, blipbench, command, edit, golden_arguments, result_of, says
from goldens import GOLDEN, Golden
from PIL import Image

ANNOTATION = "coco_karpathy_test.json"


@pytest.fixture
def data(golden: Golden, tmp_path: Path) -> Path:
    """Six of the golden images as JPEGs, with their captions."""
    folder = tmp_path / "data"
    records = json.loads((golden.data / ANNOTATION).read_text())[:6]
    (folder / "images").mkdir(parents=True)
    for record in records:
        name = Path(record["image"]).with_suffix(".jpg").name
        Image.open(golden.data / record["image"]).convert("RGB").save(folder / "images" / name, quality=95)
        record["image"] = f"images/{name}"
    (folder / ANNOTATION).write_text(json.dumps(records))
    return folder


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Callable[..., Result]:
    def with_changes(*flags: str, **changes: object) -> Result:
        return blipbench(
            *golden_arguments(tmp_path / "runs", **{"data": data, "on_error": "continue", **changes}), *flags
        )

    return with_changes


def test_the_data_these_tests_spoil_is_good(run: Callable[..., Result]) -> None:
    says(run(), 0, "txt_r1")


def test_on_error_stop_ends_at_the_first_failure(run: Callable[..., Result], data: Path) -> None:
    picture = data / "images" / "ship_002.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    says(run(on_error="stop"), 1, "ship_002.jpg")


def test_a_text_file_named_jpg(run: Callable[..., Result], data: Path) -> None:
    (data / "images" / "ship_001.jpg").write_text("I am a picture, honestly")
    says(run(), 1, "ship_001.jpg", "not an image")


def test_a_hundred_megapixel_bomb_is_not_decoded(run: Callable[..., Result], data: Path) -> None:
    Image.new("L", (10_000, 10_000)).save(data / "images" / "ship_001.jpg")
    says(run(), 1, "ship_001.jpg", "100 megapixels", "limit")


def test_every_image_broken_leaves_nothing_to_score(run: Callable[..., Result], data: Path) -> None:
    for picture in (data / "images").iterdir():
        picture.write_text("broken")
    done = run()
    assert done.exit_code == 1 and "Traceback" not in done.output and "not an image" in done.output


def test_an_empty_caption_list(run: Callable[..., Result], data: Path) -> None:
    edit(data / ANNOTATION, lambda records: records[3].update(caption=[]))
    says(run(), 1, "record 4", "caption")


def test_captions_that_do_not_line_up_with_images(run: Callable[..., Result], data: Path) -> None:
    edit(
        data / ANNOTATION,
        lambda records: records[2].update(caption="one caption where the others have lists"),
    )
    says(run(), 1, "record 3", "caption")


def test_the_same_image_twice(run: Callable[..., Result], data: Path) -> None:
    edit(data / ANNOTATION, lambda records: records[5].update(image="./images/ship_000.jpg"))
    says(run(), 1, "images/ship_000.jpg", "1", "6")


def test_fewer_texts_than_k_test_means_all_texts(run: Callable[..., Result], tmp_path: Path) -> None:
    says(run(k_test=256), 0)
    assert result_of(tmp_path / "runs")["timing"]["stages"][1]["items"] == 6 * 30


def test_a_path_that_leaves_the_data_folder(run: Callable[..., Result], data: Path) -> None:
    edit(data / ANNOTATION, lambda records: records[0].update(image="../../etc/passwd"))
    says(run(), 1, "../../etc/passwd")


def test_an_unknown_key_in_a_task(run: Callable[..., Result], tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    shutil.copytree(GOLDEN_TASKS, tasks)
    definition = tasks / "retrieval_golden.yaml"
    definition.write_text(definition.read_text().replace("k_test", "k_tset"))
    says(run(tasks_dir=tasks), 2, "retrieval_golden.yaml", "'k_tset'", "did you mean 'k_test'")


def test_an_unknown_task_gets_the_nearest_name() -> None:
    says(blipbench("run", "retrieval_cocoo", "--ckpt", "x.pth"), 2, "retrieval_cocoo", "did you mean 'retrieval_coco'")


def test_a_truncated_checkpoint(run: Callable[..., Result], tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes((GOLDEN / "tiny_retrieval.pth").read_bytes()[:100_000])
    says(run(ckpt=broken), 1, "broken.pth")


def test_a_checkpoint_that_is_not_there(run: Callable[..., Result]) -> None:
    done = run(ckpt="nowhere/model.pth")
    assert done.exit_code in (1, 2)
    says(done, done.exit_code, "nowhere/model.pth")


def test_a_pickle_with_code_in_it_is_not_run(run: Callable[..., Result], tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {evidence}",)

    torch.save({"model": Payload()}, tmp_path / "evil.pth")
    says(run(ckpt=tmp_path / "evil.pth"), 1, "evil.pth")
    assert not evidence.exists()


def test_weights_that_are_not_numbers(run: Callable[..., Result], tmp_path: Path) -> None:
    content = torch.load(GOLDEN / "tiny_retrieval.pth", weights_only=True)
    content["model"]["itm_head.weight"][0, 0] = float("nan")
    torch.save(content, tmp_path / "nan.pth")
    says(run(ckpt=tmp_path / "nan.pth"), 1, "nan.pth", "itm_head.weight")


def test_k_test_zero(run: Callable[..., Result]) -> None:
    says(run(k_test=0), 2, "--k-test 0")


def test_a_gpu_that_is_not_there(run: Callable[..., Result]) -> None:
    says(run(device="cuda:99"), 2, "--device cuda:99")


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_a_precision_that_a_cpu_does_not_have(run: Callable[..., Result], precision: str) -> None:
    says(run(device="cpu", precision=precision), 2, f"--precision {precision}", "GPU")


def test_no_space_left_for_the_samples(data: Path, tmp_path: Path) -> None:
    """A process that may write no file over 4 KiB meets its limit as it would meet a full disk."""

    def limit_file_size() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = subprocess.run(
        command(golden_arguments(tmp_path / "runs", data=data)),
        capture_output=True,
        text=True,
        preexec_fn=limit_file_size,
    )
    assert done.returncode == 1, done.stderr
    assert "no space is left" in done.stderr and "--out" in done.stderr and "--resume" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["run", "show", "train"])
@pytest.mark.parametrize(
    "text, message",
    [
        ("name: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("name: 2020-13-45", "month must be in 1..12"),
        ("[" * 5000, "nested too deeply"),
    ],
    ids=["deep", "date", "open"],
)
def test_a_yaml_file_that_no_parser_gets_through(tmp_path: Path, name: str, text: str, message: str) -> None:
    (file := tmp_path / "mine.yaml").write_text(text)
    says(blipbench(name, file), 2, f"{file}: cannot be read: ", message)


def test_a_set_value_that_no_parser_gets_through() -> None:
    for value in ("[" * 5000, "2020-13-45", "{"):
        says(blipbench("train", "vqa_shapes", "--set", f"lr={value}"), 2, "is not a YAML value")
