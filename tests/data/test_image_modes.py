"""Every mode that Pillow opens gives the right colours or is refused by name. Pictures are turned only on request."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blipbench.data.images import decode_image, is_turned, thumbnail
from blipbench.errors import DataError

COLOUR = Image.new("RGB", (8, 8), (200, 100, 50))
GREY = Image.new("L", (8, 8), 100)
DEEP = Image.fromarray(np.full((8, 8), 100 * 257, np.uint16))  # 16 bits


def with_mode(mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        return DEEP
    if mode in ("1", "L", "LA"):
        return GREY.convert(mode)
    if mode == "PA":
        return COLOUR.convert("P").convert("PA")
    return COLOUR.convert(mode)


@pytest.mark.parametrize(
    "mode, suffix, expected",
    [
        ("RGB", "png", (200, 100, 50)),
        ("RGBA", "png", (200, 100, 50)),
        ("CMYK", "tiff", (200, 100, 50)),
        ("YCbCr", "tiff", (200, 100, 50)),
        ("P", "png", (204, 102, 51)),  # the nearest colour of the web palette
        ("PA", "tiff", (204, 102, 51)),
        ("L", "png", (100, 100, 100)),
        ("LA", "png", (100, 100, 100)),
        ("I;16", "png", (100, 100, 100)),
        ("I;16", "tiff", (100, 100, 100)),
        ("I;16", "ppm", (100, 100, 100)),
        ("I;16", "jp2", (100, 100, 100)),
    ],
)
def test_a_mode_gives_its_colours(tmp_path: Path, mode: str, suffix: str, expected: tuple[int, int, int]) -> None:
    with_mode(mode).save(path := tmp_path / f"a.{suffix}")
    pixels = decode_image(path, 4).float().mean((1, 2))
    assert (pixels - torch.tensor(expected)).abs().max() <= 2
    assert thumbnail(path, 8)


def test_sixteen_bits_use_the_whole_range(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    Image.fromarray(np.tile(ramp, (256, 1))).save(path := tmp_path / "ramp.png")
    assert decode_image(path, 256)[0, 0].tolist() == [(int(level) + 128) // 257 for level in ramp]


def write_tiff(path: Path, bits: int, white_is_zero: bool, data: bytes) -> Path:
    """8 x 8 grey pixels in kinds that Pillow reads but does not write."""
    tags = [(256, 8), (257, 8), (258, bits), (259, 1), (262, 0 if white_is_zero else 1), (273, 8), (277, 1), (278, 8)]
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in [*tags, (279, len(data))])
    header = b"II" + struct.pack("<HI", 42, 8 + len(data))
    path.write_bytes(header + data + struct.pack("<H", 9) + directory + bytes(4))
    return path


def test_twelve_bits_use_the_whole_range(tmp_path: Path) -> None:
    two_pixels = (100 * 4095 // 255 << 12 | 200 * 4095 // 255).to_bytes(3, "big")
    pixels = decode_image(write_tiff(tmp_path / "scan.tiff", 12, False, two_pixels * 32), 8)
    assert pixels[0, 0].tolist() == [100, 200] * 4


def test_sixteen_bits_of_which_zero_is_white_are_inverted(tmp_path: Path) -> None:
    levels = np.full(64, (255 - 100) * 257, "<u2").tobytes()
    assert decode_image(write_tiff(tmp_path / "scan.tiff", 16, True, levels), 8).unique().tolist() == [100]


@pytest.mark.parametrize("mode, suffix", [("I", "tiff"), ("F", "tiff"), ("LAB", "tiff")])
def test_a_mode_that_would_be_clipped_is_refused_by_name(tmp_path: Path, mode: str, suffix: str) -> None:
    Image.new(mode, (8, 8)).save(path := tmp_path / f"a.{suffix}")
    with pytest.raises(DataError, match=rf"a\.{suffix}: images of mode {mode} are not supported; save it as RGB"):
        decode_image(path, 4)


def test_every_mode_of_pillow_is_known(tmp_path: Path) -> None:
    """A mode that a new version of Pillow brings must be put on one of the two lists."""
    from blipbench.data import images

    known = {*images.CONVERTIBLE, *images.VIA, *images.SIXTEEN_BITS, "I", "F", "LAB"}
    assert {mode for mode in Image.MODES if not mode.startswith("BGR;")} <= known


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_on_request(tmp_path: Path, orientation: int) -> None:
    """The expected turn is Pillow's own."""
    from PIL import ImageOps

    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise).save(path := tmp_path / "phone.png", exif=exif)
    with Image.open(path) as image:
        ImageOps.exif_transpose(image).save(upright := tmp_path / "upright.png")
    assert torch.equal(decode_image(path, 12, upright=True), decode_image(upright, 12))
    assert is_turned(path) == (orientation != 1)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_does_not_exist_is_ignored(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    COLOUR.save(path := tmp_path / "odd.jpg", exif=exif)
    assert not is_turned(path)
    assert torch.equal(decode_image(path, 4, upright=True), decode_image(path, 4))


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    COLOUR.save(path := tmp_path / "odd.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert not is_turned(path)
    assert decode_image(path, 4, upright=True).shape == (3, 4, 4)
