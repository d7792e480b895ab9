"""From an image file to the pixels a model sees, equal to the reference's test transform.

A file is decoded by Pillow, made RGB and resized bicubically to a square without keeping its aspect: uint8 pixels,
which travel between processes and to the device. `normalise` makes floats of them there.

Left out on purpose, because the reference does without and pixels would change: EXIF orientation, JPEG draft mode
(decoding at reduced size), and tolerance of truncated files.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from blipbench.errors import DataError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
MAX_PIXELS = 64_000_000  # some ten times any benchmark's largest image; 192 MB once decoded

# Pillow's other readers are rarely met and in part dangerous: its EPS reader starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")


Fit = Callable[[Image.Image], torch.Tensor]  # an RGB image of any size to uint8 [3, S, S], as another model wants it


def decode_image(path: Path, image_size: int, fit: Fit | None = None) -> torch.Tensor:
    """The file as uint8 [3, image_size, image_size], RGB; `fit` replaces BLIP's resizing.

    Raises DataError if it is not an image, is damaged, or has more than MAX_PIXELS pixels.
    """
    with _opened(path) as image:
        rgb = image.convert("RGB")
        if fit is not None:
            return fit(rgb)
        resized = rgb.resize((image_size, image_size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized))  # [S, S, 3]
    return pixels.permute(2, 0, 1).contiguous()  # [3, S, S]


def thumbnail(path: Path, longest: int) -> bytes:
    """The picture as a JPEG of at most `longest` pixels a side, its aspect kept. Raises DataError as `decode_image`."""
    with _opened(path) as image:
        small = image.convert("RGB")
        small.thumbnail((longest, longest))
        encoded = io.BytesIO()
        small.save(encoded, "JPEG", quality=80)
    return encoded.getvalue()


def read_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels from the file's header alone. Raises DataError as `decode_image` does."""
    with _opened(path) as image:
        return image.size


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [..., 3, S, S] to float32 of the same shape on the same device: to [0, 1], minus MEAN, over STD."""
    mean = torch.tensor(MEAN, device=pixels.device).view(3, 1, 1)
    std = torch.tensor(STD, device=pixels.device).view(3, 1, 1)
    return pixels.to(torch.float32).div(255).sub_(mean).div_(std)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image with only its header read; whatever Pillow raises inside becomes a DataError that names the file."""
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
