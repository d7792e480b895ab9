"""examples/own_data works as its README says."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import blipbench, result_of
from goldens import GOLDEN

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_data"
CKPT = ("--ckpt", GOLDEN / "tiny_retrieval.pth", "--model", GOLDEN / "tiny.yaml", "--workers", 0)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "mine"))


def test_the_table_and_the_yaml_make_a_retrieval_task(tmp_path: Path) -> None:
    done = blipbench("run", EXAMPLE / "retrieval_mine.yaml", *CKPT, "--data", EXAMPLE, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    result = result_of(tmp_path, "retrieval_mine")
    assert result["data"]["counts"] == {"images": 6, "texts": 12}
    assert {"txt_r1", "img_r1", "r_mean"} <= result["metrics"].keys()


def test_the_same_table_makes_a_captioning_task(tmp_path: Path) -> None:
    captioner = ("--ckpt", GOLDEN / "tiny_caption.pth", *CKPT[2:])
    done = blipbench("run", EXAMPLE / "caption_mine.yaml", *captioner, "--data", EXAMPLE, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    result = result_of(tmp_path, "caption_mine", "tiny_caption")
    assert result["data"]["counts"]["images"] == 6
    assert {"CIDEr", "Bleu_4"} <= result["metrics"].keys() or any("Java was not found" in n for n in result["notes"])
    captions = json.loads((tmp_path / "caption_mine" / "tiny_caption" / "captions.json").read_text())
    assert [caption["image_id"] for caption in captions] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["captions.json", "captions.jsonl"])
def test_the_table_may_be_json(mine: Path, tmp_path: Path, name: str) -> None:
    rows = [{"file": f"images/scene_{i}.jpg", "text": [f"a {i}", f"b {i}"]} for i in range(1, 7)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (mine / name).write_text(json.dumps(rows) if name.endswith(".json") else lines)
    task = mine / "retrieval_mine.yaml"
    task.write_text(task.read_text().replace("{test: captions.csv}", f"{{test: {name}}}"))
    done = blipbench("run", task, *CKPT, "--data", mine, "--out", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    assert result_of(tmp_path / "runs", "retrieval_mine")["data"]["counts"] == {"images": 6, "texts": 12}


def test_a_resume_with_another_column_of_the_same_table_is_refused(mine: Path, tmp_path: Path) -> None:
    table, task = mine / "captions.csv", mine / "retrieval_mine.yaml"
    table.write_text("file,text,other\n" + "".join(f"images/scene_{i}.jpg,a {i},b {i}\n" for i in range(1, 7)))
    arguments = ("run", task, *CKPT, "--data", mine, "--out", tmp_path / "runs")
    assert blipbench(*arguments).exit_code == 0
    task.write_text(task.read_text().replace("caption: text", "caption: other"))
    refused = blipbench(*arguments, "--resume")
    assert refused.exit_code == 2
    assert "holds another run" in refused.output and "columns" in refused.output


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("  columns: {image: file, caption: text}\n", "", "reader 'table' requires columns"),
        ("reader: table", "reader: karpathy", "only reader 'table' has columns"),
        ("caption: text", "captions: text", "unknown key 'captions' under data.columns; did you mean 'caption'?"),
        ("reader: table", "reader: csv", "data.reader"),
        ("reader: table\n", "reader: msrvtt\n", "only reader 'table' has columns"),
        (
            "reader: table\n  annotations: {test: captions.csv}\n  columns: {image: file, caption: text}\n",
            "reader: nlvr\n  annotations: {test: captions.csv}\n",
            "data.reader: input should be 'karpathy', 'karpathy_splits', 'coco_captions', 'table' or 'msrvtt'",
        ),
    ],
)
def test_a_wrong_data_section_is_explained(mine: Path, old: str, new: str, message: str) -> None:
    task = mine / "retrieval_mine.yaml"
    task.write_text(task.read_text().replace(old, new))
    done = blipbench("run", task, *CKPT, "--data", mine)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_a_column_that_is_not_in_the_table_is_named_with_those_that_are(mine: Path, tmp_path: Path) -> None:
    task = mine / "retrieval_mine.yaml"
    task.write_text(task.read_text().replace("caption: text", "caption: title"))
    done = blipbench("run", task, *CKPT, "--data", mine, "--out", tmp_path / "runs")
    assert done.exit_code == 1
    assert "no column is called 'title'; there are file, text" in " ".join(done.output.split())


def test_verify_checks_the_table_and_its_images(mine: Path) -> None:
    arguments = ("data", "verify", mine / "retrieval_mine.yaml", "--data", mine)
    sound = blipbench(*arguments)
    assert sound.exit_code == 0, sound.output
    assert "6 images, 12 texts" in sound.output
    (mine / "images" / "scene_2.jpg").write_text("no image")
    done = blipbench(*arguments)
    assert done.exit_code == 1
    assert "1 problem" in done.output and "scene_2.jpg" in done.output
