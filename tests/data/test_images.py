"""Decoding and normalising equal the reference's; hostile and damaged files are refused by name."""

import io
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms import InterpolationMode, Resize

from blipbench.data.images import decode_image, normalise, read_size, thumbnail
from blipbench.errors import DataError

GOLDEN = Path(__file__).parents[1] / "golden"


def photo(path: Path, width: int = 320, height: int = 240, **options: Any) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((width, height)).save(path, **options)
    return path


def png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and has next to no data: the classic bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


def test_every_mode_gives_the_pixels_of_the_reference() -> None:
    files = [picture["file"] for picture in json.loads((GOLDEN / "index.json").read_text())["pictures"]]
    pixels = torch.stack([decode_image(GOLDEN / "data" / file, 48) for file in files])
    expected = load_file(GOLDEN / "images.safetensors")["image"]
    assert (normalise(pixels) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_jpeg_gives_the_pixels_of_torchvisions_resize(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    expected = Resize((96, 96), InterpolationMode.BICUBIC)(Image.open(path).convert("RGB"))
    assert decode_image(path, 96).permute(1, 2, 0).numpy().tolist() == np.asarray(expected).tolist()


def test_exif_orientation_is_ignored_as_in_the_reference(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    turned = photo(tmp_path / "turned.jpg", exif=exif)
    assert torch.equal(decode_image(turned, 32), decode_image(photo(tmp_path / "plain.jpg"), 32))


def test_normalise_takes_any_leading_dimensions_and_leaves_its_input(tmp_path: Path) -> None:
    clip = torch.stack([decode_image(photo(tmp_path / "a.jpg"), 16)] * 3)[None]  # [1, 3, 3, S, S]
    before = clip.clone()
    assert torch.equal(normalise(clip)[0, 1], normalise(clip[0, 1]))
    assert torch.equal(clip, before)


def test_the_header_alone_says_the_size(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", 320, 240)
    path.write_bytes(path.read_bytes()[:800])
    assert read_size(path) == (320, 240)


@pytest.mark.parametrize("function", [lambda path: decode_image(path, 16), read_size])
@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (20_000, 20_000)])
def test_a_bomb_is_refused_before_decoding(tmp_path: Path, function, width: int, height: int) -> None:  # type: ignore[no-untyped-def]
    path = png_header(tmp_path / "bomb.png", width, height)
    with pytest.raises(DataError, match=r"bomb\.png: .*more than the limit of 64 megapixels"):
        function(path)


def test_the_message_says_the_size_of_a_bomb(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"10000 x 10000 pixels \(100 megapixels\)"):
        decode_image(png_header(tmp_path / "bomb.png", 10_000, 10_000), 16)


def test_a_truncated_jpeg_is_refused(tmp_path: Path) -> None:
    path = photo(tmp_path / "cut.jpg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut\.jpg: the image cannot be read: .*truncated"):
        decode_image(path, 16)


def test_a_damaged_png_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"short\.png: the image"):
        decode_image(png_header(tmp_path / "short.png", 500, 500), 16)


def test_a_text_file_named_jpg_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.jpg"
    path.write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"page\.jpg: not an image"):
        decode_image(path, 16)


def test_postscript_is_never_interpreted(tmp_path: Path) -> None:
    path = tmp_path / "script.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(DataError, match=r"script\.jpg: not an image"):
        decode_image(path, 16)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: the image cannot be read: No such file or directory"):
        decode_image(tmp_path / "gone.jpg", 16)


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_never_escapes_as_another_error(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    path = photo(tmp_path / f"fuzz.{['jpg', 'png', 'webp', 'gif'][seed % 4]}", 64, 64)
    content = bytearray(path.read_bytes())
    for place in random.integers(0, len(content), 30):
        content[place] = random.integers(256)
    path.write_bytes(content)
    try:
        decode_image(path, 16)
    except DataError as error:
        message = str(error)
    else:
        message = os.fspath(path)  # harmless damage
    assert os.fspath(path) in message


def test_a_thumbnail_is_a_small_jpeg_that_keeps_the_aspect(tmp_path: Path) -> None:
    encoded = thumbnail(photo(tmp_path / "wide.png", 640, 320), longest=200)
    with Image.open(io.BytesIO(encoded)) as small:
        assert (small.format, small.size) == ("JPEG", (200, 100))


def test_a_picture_smaller_than_its_thumbnail_is_not_enlarged(tmp_path: Path) -> None:
    with Image.open(io.BytesIO(thumbnail(photo(tmp_path / "small.png", 40, 32), longest=200))) as small:
        assert small.size == (40, 32)
