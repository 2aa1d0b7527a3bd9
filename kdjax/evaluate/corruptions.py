"""Corruptions of images in five severities, with the parameters of CIFAR-C.

Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (ICLR 2019); hendrycks/robustness,
`ImageNet-C/create_c/make_cifar_c.py`.

Differs from the original in: only the ten corruptions that need neither OpenCV nor
ImageMagick nor pictures of frost; the random numbers are a function of corruption,
severity and image; images of any size get the strengths for 32x32, where the original
has others for larger ones.
"""

import io
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image
from scipy import ndimage

#: Severities, from 1.
SEVERITIES = (1, 2, 3, 4, 5)

Pixels = np.ndarray


def gaussian_noise(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Adds normal noise."""
    scale = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return image + rng.normal(scale=scale, size=image.shape)


def shot_noise(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Counts photons: Poisson noise."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return rng.poisson(image * photons) / photons


def impulse_noise(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Sets a fraction of the values to 0 or 1 (salt and pepper)."""
    fraction = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    hit = rng.random(image.shape) < fraction
    return np.where(hit, rng.integers(0, 2, image.shape), image)


def speckle_noise(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Adds normal noise in proportion to each value."""
    scale = (0.06, 0.10, 0.12, 0.16, 0.20)[severity - 1]
    return image + image * rng.normal(scale=scale, size=image.shape)


def gaussian_blur(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Blurs each channel."""
    del rng
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest")


def contrast(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Moves every value toward the mean of its channel."""
    del rng
    factor = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = image.mean(axis=(0, 1), keepdims=True)
    return (image - mean) * factor + mean


def brightness(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Adds to the value of HSV; hue and saturation stay."""
    del rng
    added = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    value = image.max(axis=-1, keepdims=True)
    brighter = np.clip(value + added, 0, 1)
    # Black has no hue, and becomes gray.
    return np.where(value > 0, image / np.where(value > 0, value, 1), 1) * brighter


def saturate(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Scales and shifts the saturation of HSV; hue and value stay."""
    del rng
    factor, added = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    value = image.max(axis=-1, keepdims=True)
    span = value - image.min(axis=-1, keepdims=True)
    before = np.divide(span, value, out=np.zeros_like(span), where=value > 0)
    after = np.clip(before * factor + added, 0, 1)
    # How far each channel is below the value, of the farthest; gray counts as red.
    below = np.divide(value - image, span, out=np.zeros_like(image), where=span > 0)
    below = np.where(span > 0, below, np.array([0.0, 1.0, 1.0]))
    return value * (1 - below * after)


def jpeg_compression(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Stores the image as JPEG of low quality."""
    del rng
    file = io.BytesIO()
    quality = (80, 65, 58, 50, 40)[severity - 1]
    Image.fromarray(_as_bytes(image)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)) / 255


def pixelate(image: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Makes the image smaller and large again by averages over boxes."""
    del rng
    factor = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width, _ = image.shape
    small = max(int(width * factor), 1), max(int(height * factor), 1)
    smaller = Image.fromarray(_as_bytes(image)).resize(small, Image.Resampling.BOX)
    return np.asarray(smaller.resize((width, height), Image.Resampling.BOX)) / 255


#: By name. Each takes an image, [H, W, 3] from 0 to 1, a severity and random numbers.
CORRUPTIONS: Mapping[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    function.__name__: function
    for function in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        speckle_noise,
        gaussian_blur,
        contrast,
        brightness,
        saturate,
        jpeg_compression,
        pixelate,
    )
}


def corrupt(image: np.ndarray, name: str, severity: int, index: int) -> np.ndarray:
    """Corrupts an image.

    Args:
      image: RGB, uint8 [H, W, 3].
      name: of the corruption.
      severity: one of `SEVERITIES`.
      index: of the image, which its random numbers depend on.

    Returns:
      An image of the same shape and type; fractions of a level are cut off, as in the
      original.
    """
    rng = np.random.default_rng((zlib.crc32(name.encode()), severity, index))
    return _as_bytes(CORRUPTIONS[name](image / 255, severity, rng))


def _as_bytes(image: Pixels) -> np.ndarray:
    # The small number is for 255 * (n / 255), which may be just below n.
    return (255 * np.clip(image, 0, 1) + 1e-9).astype(np.uint8)
