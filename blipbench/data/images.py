"""Decodes an image file into the pixels that a model sees, equal to the reference's test transform.

Pillow decodes the file. The image is converted to RGB and resized to a square with bicubic interpolation, without
keeping its aspect ratio. The uint8 pixels travel between processes and to the device, where `normalise` makes floats of
them.

The official benchmarks do not use the EXIF orientation, JPEG draft mode (decoding at a reduced size) or truncated
files, because the reference does not. A user's own pictures can be turned upright (`upright=True`).
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from blipbench.errors import DataError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
MAX_PIXELS = 64_000_000  # some ten times any benchmark's largest image; 192 MB once decoded

# Pillow's other readers are rarely met and in part dangerous: its EPS reader starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")


# Modes that Pillow converts to RGB without clipping. Alpha is dropped, as in the reference.
CONVERTIBLE = ("1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "PA")
VIA = {"La": "LA", "RGBa": "RGBA"}  # alpha premultiplied
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_UPRIGHT = 1  # the EXIF orientation of a picture that is stored as it is shown

Fit = Callable[[Image.Image], torch.Tensor]  # an RGB image of any size -> uint8 [3, S, S], for another model


def decode_image(path: Path, image_size: int, fit: Fit | None = None, *, upright: bool = False) -> torch.Tensor:
    """The file as uint8 [3, image_size, image_size], RGB.

    `fit` replaces BLIP's resizing. `upright` turns the picture as its EXIF orientation says.

    Raises DataError if it is not an image, is damaged, has more than MAX_PIXELS pixels, or has a mode that cannot be
    converted to RGB.
    """
    with _opened(path) as image:
        rgb = _to_rgb(image, path)
        if upright and orientation(image) != _UPRIGHT:
            rgb = rgb.transpose(_TURN[orientation(image)])
        if fit is not None:
            return fit(rgb)
        resized = rgb.resize((image_size, image_size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized))  # [S, S, 3]
    return pixels.permute(2, 0, 1).contiguous()  # [3, S, S]


def thumbnail(path: Path, longest: int) -> bytes:
    """The picture as a JPEG of at most `longest` pixels a side, its aspect kept. Raises DataError as `decode_image`."""
    with _opened(path) as image:
        small = _to_rgb(image, path)
        small.thumbnail((longest, longest))
        encoded = io.BytesIO()
        small.save(encoded, "JPEG", quality=80)
    return encoded.getvalue()


def read_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels from the file's header alone. Raises DataError as `decode_image` does."""
    with _opened(path) as image:
        return image.size


_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, if there is none or it is damaged."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # on damaged EXIF Pillow raises SyntaxError, struct.error, ValueError, ...
        return _UPRIGHT
    return found if found in _TURN else _UPRIGHT


def is_turned(path: Path) -> bool:
    """Whether the file's EXIF says that it must be turned to be upright. False if it cannot be read."""
    try:
        with _opened(path) as image:
            return orientation(image) != _UPRIGHT
    except DataError:
        return False


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """The image in RGB. Pillow clips 16 and 32 bit modes in silence; those are scaled, or refused by name."""
    if image.mode in VIA:
        image = image.convert(VIA[image.mode])
    # Pillow opens a greyscale PPM of 16 bits, and in older versions such a PNG, in mode I.
    if image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image = _to_grey(image)
    if image.mode not in CONVERTIBLE:
        raise DataError(f"{path}: images of mode {image.mode} are not supported; save it as RGB with 8 bits a channel")
    return image.convert("RGB")


def _to_grey(image: Image.Image) -> Image.Image:
    """A greyscale image of 16 bits scaled to 8. Pillow neither scales a TIFF of 12 bits nor inverts one of 16."""
    levels = np.asarray(image).astype(np.uint32)  # [H, W], 0 to `white`
    white = 65535
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        white = 4095 if image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE) == (12,) else white
        if image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # 0 is white
            levels = white - levels
    return Image.fromarray(((levels * 255 + white // 2) // white).astype(np.uint8))


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [..., 3, S, S] to float32 of the same shape on the same device: to [0, 1], minus MEAN, over STD."""
    mean = torch.tensor(MEAN, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(STD, device=pixels.device).view(3, 1, 1)
    return pixels.to(torch.float32).div(255).sub_(mean).div_(std)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image with only its header read; whatever Pillow raises inside becomes a DataError that names the file."""
    if path.exists() and not (path.is_file() or path.is_dir()):  # a named pipe would block, a device never end
        raise DataError(f"{path}: not a regular file; replace it by an image file")
    try:
        # Pillow warns of odd metadata and of bombs below twice its own limit; neither is for the user's terminal.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise DataError(
                        f"{path}: {width} x {height} pixels ({width * height / 1e6:.0f} megapixels) are more than the "
                        f"limit of {MAX_PIXELS / 1e6:.0f} megapixels; make the image smaller"
                    )
                yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: more than the limit of {MAX_PIXELS / 1e6:.0f} megapixels: {error}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image, or none of {', '.join(FORMATS)}; replace the file") from error
    except OSError as error:
        raise DataError(f"{path}: the image cannot be read: {error.strerror or error}; replace the file") from error
    except Exception as error:  # on hostile bytes Pillow's parsers raise SyntaxError, struct.error, ValueError, ...
        raise DataError(f"{path}: the image is damaged ({type(error).__name__}: {error}); replace the file") from error
