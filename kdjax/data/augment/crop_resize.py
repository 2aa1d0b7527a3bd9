"""What part of an image is looked at, and brought to which size: on the host."""

import math

import numpy as np
from PIL import Image

#: Of a random part: its share of the area, and how wide it is to its height.
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_TRIALS = 10

_Box = tuple[float, float, float, float]


def center(image: Image.Image, size: int, part: float = 1.0) -> Image.Image:
    """Resizes the center of an image, bilinearly and with antialiasing.

    With a part of 224/256 this is, but for rounding, the usual evaluation on ImageNet:
    the shorter side resized to 256, and the middle 224 pixels cut out.

    Args:
      image: of any size.
      size: height and width of the result; 0 for the image as it is.
      part: side of the square that is cut out, over the shorter side.
    """
    if not size:
        return image
    # Cut out first: as good, and a very long image is never made larger as a whole.
    side = part * min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return _resized(image, size, (left, top, left + side, top + side))


def random_resized(
    image: Image.Image, size: int, rng: np.random.Generator
) -> Image.Image:
    """Resizes a random part of an image: "Inception style" cropping.

    Source: `RandomResizedCrop` of torchvision with its defaults, as the overhaul paper
    has it on ImageNet. Differs from the original in: nothing but the random numbers.

    Args:
      image: of any size.
      size: height and width of the result.
      rng: drawn from, more often for images that are long and thin.
    """
    return _resized(image, size, random_part(image.size, rng))


def random_part(image_size: tuple[int, int], rng: np.random.Generator) -> _Box:
    """Draws the part for `random_resized`: its left, top, right and bottom."""
    width, height = image_size
    for _ in range(_TRIALS):
        area = width * height * rng.uniform(*_AREA)
        aspect = math.exp(rng.uniform(*np.log(_ASPECT)))
        across = round(math.sqrt(area * aspect))
        down = round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left = int(rng.integers(width - across + 1))
            top = int(rng.integers(height - down + 1))
            return left, top, left + across, top + down
    # The center of what is too long or too high for that.
    across = min(width, round(height * _ASPECT[1]))
    down = min(height, round(width / _ASPECT[0]))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _resized(image: Image.Image, size: int, box: _Box) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
