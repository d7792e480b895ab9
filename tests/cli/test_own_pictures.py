"""What real pictures and texts bring: EXIF orientations, texts in other scripts, faults in the data of every task."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import GOLDEN_TASKS, blipbench, golden_arguments, result_of, says
from goldens import GOLDEN
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_data"
CKPT = ("--ckpt", GOLDEN / "tiny_retrieval.pth", "--model", GOLDEN / "tiny.yaml", "--workers", 0)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "mine"))


def lay_on_its_side(picture: Path) -> None:
    """Upright only by its EXIF, as a phone saves it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(picture) as image:
        turned = image.convert("RGB").rotate(90, expand=True)
    turned.save(picture, "PNG" if picture.suffix == ".png" else "JPEG", exif=exif)


def run_mine(mine: Path, out: Path) -> dict[str, list[float]]:
    says(blipbench("run", mine / "retrieval_mine.yaml", *CKPT, "--data", mine, "--out", out), 0)
    import pyarrow.parquet as pq

    rows = pq.read_table(out / "retrieval_mine" / "tiny_retrieval" / "samples" / "embed.parquet").to_pylist()
    return {row["name"]: row["embedding"] for row in rows if row["kind"] == "image"}


def test_pictures_of_a_table_are_turned_upright(mine: Path, tmp_path: Path) -> None:
    picture = "images/scene_1.png"
    (mine / "captions.csv").write_text(f"file,text\n{picture},a scene\nimages/scene_2.jpg,another\n")
    Image.open(mine / "images" / "scene_1.jpg").save(mine / picture)  # a JPEG turned would be another JPEG
    before = run_mine(mine, tmp_path / "upright")
    lay_on_its_side(mine / picture)
    after = run_mine(mine, tmp_path / "turned")
    assert after == before
    data = result_of(tmp_path / "turned", "retrieval_mine")["data"]
    assert (data["turned_images"], data["upright"]) == (1, True)


def test_the_official_readers_use_them_as_stored_and_say_so(tmp_path: Path) -> None:
    data = Path(shutil.copytree(GOLDEN / "data", tmp_path / "data"))
    lay_on_its_side(data / "images" / "ship_003.png")
    done = blipbench(*golden_arguments(tmp_path / "runs", data=data))
    says(done, 0, "note: 1 images have an EXIF orientation, which is ignored")
    assert result_of(tmp_path / "runs")["data"]["turned_images"] == 1


def test_single_pictures_are_turned_upright(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "data" / "images" / "ship_003.png", picture := tmp_path / "phone.png")
    before = blipbench("match", picture, "a dog", *CKPT[:4], "--json").stdout
    lay_on_its_side(picture)
    assert blipbench("match", picture, "a dog", *CKPT[:4], "--json").stdout == before


def test_texts_that_the_vocabulary_lacks_are_told(mine: Path, tmp_path: Path) -> None:
    lines = [f"images/scene_{i}.jpg,🙂 红色的圆 مرحبا {i}" for i in range(1, 7)]
    (mine / "captions.csv").write_text("file,text\n" + "\n".join(lines), encoding="utf-8")
    done = blipbench("run", mine / "retrieval_mine.yaml", *CKPT, "--data", mine, "--out", tmp_path / "runs")
    says(done, 0, "of the texts' tokens are not in the model's vocabulary")
    assert result_of(tmp_path / "runs", "retrieval_mine")["data"]["unknown_tokens"] > 0.5
    done = blipbench("data", "verify", mine / "retrieval_mine.yaml", "--data", mine)
    says(done, 0, "warning: ", "of the texts' tokens are not in the vocabulary ([UNK])")


TASKS = ("retrieval_golden", "caption_golden", "nocaps_golden", "vqa_golden", "nlvr_golden")


@pytest.mark.parametrize("task", TASKS)
def test_verify_decodes_the_images_of_every_task(tmp_path: Path, task: str) -> None:
    data = Path(shutil.copytree(GOLDEN / "data", tmp_path / "data"))
    arguments = ("data", "verify", task, "--data", data, "--tasks-dir", GOLDEN_TASKS, "--workers", 0)
    says(blipbench(*arguments, "--deep"), 0, "ok: every image can be decoded")
    picture = data / "images" / "ship_003.png"
    picture.write_bytes(picture.read_bytes()[:60])
    says(blipbench(*arguments), 0)
    says(blipbench(*arguments, "--deep"), 1, "1 problem:", "ship_003.png")


@pytest.mark.parametrize("task, file", [("vqa_golden", "vqa_test.json"), ("nlvr_golden", "nlvr_test.json")])
def test_verify_lists_every_faulty_record(tmp_path: Path, task: str, file: str) -> None:
    data = Path(shutil.copytree(GOLDEN / "data", tmp_path / "data"))
    records = json.loads((data / file).read_text())
    records[0], records[2] = "a text", 7
    (data / file).write_text(json.dumps(records))
    done = blipbench("data", "verify", task, "--data", data, "--tasks-dir", GOLDEN_TASKS)
    says(done, 1, "2 problems:", "record 1: is a string", "record 3: is a number")


@pytest.mark.parametrize("task", ["vqa_golden", "nlvr_golden"])
def test_a_reader_of_another_protocol_is_refused(tmp_path: Path, task: str) -> None:
    file = tmp_path / f"{task}.yaml"
    file.write_text((GOLDEN_TASKS / file.name).read_text().replace("reader: ", "reader: table  # "))
    says(blipbench("show", file), 2, f"{file}: data.reader: input should be")
