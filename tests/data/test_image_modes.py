"""Every mode that Pillow opens gives the right colours or is refused by name. Pictures are turned only on request."""

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
