"""The shapes data set on disk: formats, determinism, completion after an interruption, refusals."""

import hashlib
import json
from pathlib import Path

import pytest
from blipbench.data.shapes_world import sample_scene
from PIL import Image

from blipbench.data.shapes import make_shapes, split_sizes
from blipbench.errors import DataError, UsageError

SEED = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shapes") / "world"
    make_shapes(out, images=6, seed=SEED)
    return out


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(path: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def test_the_same_seed_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path, images=6, seed=SEED)
    assert digests(tmp_path) == digests(made)


def test_images_do_not_depend_on_how_many_are_made(made: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path, images=3, seed=SEED)
    few = {name: digest for name, digest in digests(tmp_path).items() if name.endswith(".jpg")}
    assert few.items() <= digests(made).items()
    assert read(tmp_path / "shapes_karpathy_test.json") == read(made / "shapes_karpathy_test.json")[:3]


def test_another_seed_gives_other_images(made: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path, images=6, seed=SEED + 1)
    assert not {v for k, v in digests(tmp_path).items() if k.endswith(".jpg")} & set(digests(made).values())


def test_eval_annotations_list_five_captions_an_image(made: Path) -> None:
    rows = read(made / "shapes_karpathy_test.json")
    assert [row["image"] for row in rows] == [f"images/test/shapes_test_{index:06d}.jpg" for index in range(6)]
    assert all(set(row) == {"image", "caption"} and len(row["caption"]) == 5 for row in rows)  # type: ignore[arg-type]


def test_train_annotations_have_one_row_a_caption(made: Path) -> None:
    rows = read(made / "shapes_karpathy_train.json")
    assert len(rows) == 24 * 5
    assert set(rows[0]) == {"image", "caption", "image_id"}
    assert len({row["image_id"] for row in rows}) == len({row["image"] for row in rows}) == 24


def test_every_named_image_is_a_jpeg_of_the_scenes_size(made: Path) -> None:
    for index, row in enumerate(read(made / "shapes_karpathy_test.json")):
        scene = sample_scene(SEED, "test", index)
        with Image.open(made / str(row["image"])) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (scene.width, scene.height))
            assert 160 <= image.width <= 224
            assert 128 <= image.height <= 192


def test_the_summary_and_progress_count_every_image(tmp_path: Path) -> None:
    calls: list[int] = []
    summary = make_shapes(tmp_path / "new" / "folder", images=2, seed=0, progress=calls.append)
    assert summary.images == {"train": 8, "val": 1, "test": 2}
    assert calls == list(range(1, 12))
    assert all(path.is_file() for path in summary.annotations.values())


def test_sizes_follow_the_test_split() -> None:
    assert split_sizes(1000) == {"train": 4000, "val": 200, "test": 1000}
    assert split_sizes(1, splits=("val",)) == {"val": 1}


def test_making_it_again_replaces_what_was_there(made: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path, images=7, seed=SEED + 1)
    make_shapes(tmp_path, images=6, seed=SEED)
    assert digests(tmp_path) == digests(made)


def test_an_interrupted_run_leaves_no_annotations_and_can_be_completed(made: Path, tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path, images=6, seed=SEED, progress=interrupt)
    assert not list(tmp_path.glob("shapes_karpathy_*.json"))
    make_shapes(tmp_path, images=6, seed=SEED)
    assert digests(tmp_path) == digests(made)


def test_a_folder_of_another_making_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"photo")
    with pytest.raises(UsageError, match="is not empty and holds no shapes data set"):
        make_shapes(tmp_path, images=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_file_as_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="is a file; choose a folder"):
        make_shapes(tmp_path / "out", images=1, seed=0)


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the shapes data set"):
        make_shapes(tmp_path / "file" / "out", images=1, seed=0)


@pytest.mark.parametrize(
    ("images", "seed", "splits", "message"),
    [
        (0, 0, ("test",), "--images 0: the test split needs at least 1 image"),
        (1, -1, ("test",), "--seed -1: choose 0 or a positive number"),
        (1, 0, ("dev",), "found dev; choose among train, val, test"),
        (1, 0, (), "found no split; choose among train, val, test"),
    ],
)
def test_a_bad_argument_is_named(tmp_path: Path, images: int, seed: int, splits: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_shapes(tmp_path, images=images, seed=seed, splits=splits)
