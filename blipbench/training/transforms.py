"""The reference's training augmentation: random resized crop, horizontal flip, then RandAugment with 2 operations.

In: an RGB image and a seed. Out: uint8 pixels. All chances come from the seed, which the trainer makes of the run's
seed, the epoch and the example: a resumed run sees the pixels it would have seen, whatever the number of workers.

RandAugment (Cubuk 2020) as the reference uses it: magnitude 5 of 10, each operation done with probability 0.5. At that
magnitude the factor of Brightness and Sharpness is 1, so both change nothing, as in the reference; they count when the
operations are drawn. Pillow computes the geometric ones; its pixel centres lie half a pixel from OpenCV's.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import InterpolationMode, RandomResizedCrop

OPERATIONS_PER_IMAGE = 2
PROBABILITY = 0.5
STRENGTH = 0.5  # magnitude 5 of 10
MAX_SHEAR, MAX_TRANSLATION, MAX_ROTATION = 0.3, 10.0, 30.0  # factor, pixels, degrees
FILL = (128, 128, 128)

Operation = Callable[[Image.Image, float], Image.Image]  # the sign (-1 or 1) is for those that have a direction


def augment(image: Image.Image, image_size: int, min_scale: float, seed: int) -> torch.Tensor:
    """uint8 [3, image_size, image_size]; the crop has `min_scale` to 1 of the area and 3:4 to 4:3 of the aspect."""
    rng = np.random.default_rng(seed)
    crop = RandomResizedCrop(image_size, scale=(min_scale, 1.0), interpolation=InterpolationMode.BICUBIC)
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
        torch.default_generator.manual_seed(int(rng.integers(2**62)))
        image = crop(image)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    for name in rng.choice(tuple(OPERATIONS), OPERATIONS_PER_IMAGE):
        if rng.random() < PROBABILITY:
            image = OPERATIONS[name](image, 1.0 if rng.random() < 0.5 else -1.0)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()  # [3, S, S]


def example_seed(seed: int, epoch: int, example: int) -> int:
    """A seed of 63 bits that is independent from one (run, epoch, example) to the next."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{example}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _enhance(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, sign: enhancer(image).enhance(STRENGTH * 1.8 + 0.1)


def _affine(coefficients: Callable[[float], tuple[float, ...]]) -> Operation:
    """`coefficients` of the map from a pixel of the outcome to one of the image: x = a x' + b y' + c, y = d x' + ..."""

    def apply(image: Image.Image, sign: float) -> Image.Image:
        return image.transform(
            image.size, Image.Transform.AFFINE, coefficients(sign), Image.Resampling.BILINEAR, fillcolor=FILL
        )

    return apply


def _rotate(image: Image.Image, sign: float) -> Image.Image:
    return image.rotate(sign * STRENGTH * MAX_ROTATION, Image.Resampling.BILINEAR, fillcolor=FILL)


_SHEAR, _TRANSLATION = STRENGTH * MAX_SHEAR, STRENGTH * MAX_TRANSLATION

OPERATIONS: dict[str, Operation] = {
    "Identity": lambda image, sign: image,
    "AutoContrast": lambda image, sign: ImageOps.autocontrast(image),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
    "Equalize": lambda image, sign: ImageOps.equalize(image),
    "ShearX": _affine(lambda sign: (1, -sign * _SHEAR, 0, 0, 1, 0)),
    "ShearY": _affine(lambda sign: (1, 0, 0, -sign * _SHEAR, 1, 0)),
    "TranslateX": _affine(lambda sign: (1, 0, sign * _TRANSLATION, 0, 1, 0)),
    "TranslateY": _affine(lambda sign: (1, 0, 0, 0, 1, sign * _TRANSLATION)),
    "Rotate": _rotate,
}
