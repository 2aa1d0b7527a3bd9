"""Crop and resize on the host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

#: Ranges of a random crop: its area over the image's, and its width over its height.
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_TRIALS = 10

_Box = tuple[float, float, float, float]


def center_crop_resize(
    image: Image.Image, size: int, fraction: float = 1.0
) -> Image.Image:
    """Crops the central square of an image and resizes it, bilinear with antialiasing.

    With a fraction of 224/256 this is, up to rounding, the usual evaluation on
    ImageNet: resize the shorter side to 256, then crop the central 224 pixels.

    Args:
      image: of any size.
      size: height and width of the result; 0 returns the image as it is.
      fraction: side of the square over the shorter side of the image.
    """
    if not size:
        return image
    # Crop first: equivalent, and a very long image is never enlarged as a whole.
    side = fraction * min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return _resize(image, size, (left, top, left + side, top + side))


def random_resized_crop(
    image: Image.Image, size: int, rng: np.random.Generator
) -> Image.Image:
    """Resizes a random crop ("Inception style" augmentation).

    Source: `RandomResizedCrop` of torchvision with its defaults, which the overhaul
    paper uses on ImageNet. Differs from the original in: nothing but the random
    numbers.

    Args:
      image: of any size.
      size: height and width of the result.
      rng: source of random numbers; long and thin images take more of them.
    """
    return _resize(image, size, random_crop_box(image.size, rng))


def random_crop_box(image_size: tuple[int, int], rng: np.random.Generator) -> _Box:
    """Draws the box (left, top, right, bottom) of `random_resized_crop`.

    Args:
      image_size: width and height.
      rng: source of random numbers.
    """
    width, height = image_size
    for _ in range(_TRIALS):
        area = width * height * rng.uniform(*_AREA)
        aspect = math.exp(rng.uniform(*np.log(_ASPECT)))
        crop_width = round(math.sqrt(area * aspect))
        crop_height = round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(width - crop_width + 1))
            top = int(rng.integers(height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    # The center of an image that is too long or too high.
    crop_width = min(width, round(height * _ASPECT[1]))
    crop_height = min(height, round(width / _ASPECT[0]))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def _resize(image: Image.Image, size: int, box: _Box) -> Image.Image:
    from PIL import Image  # Only where images are decoded.

    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
