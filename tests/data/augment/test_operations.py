"""Operations of RandAugment against Pillow, pixel by pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from kdjax.data.augment import operations


def moved(image, *matrix):
    return image.transform(image.size, Image.AFFINE, matrix)


#: By operation: Pillow's, and values.
PILLOW = {
    "identity": (lambda image, _: image, [0]),
    "shear_x": (lambda image, v: moved(image, 1, v, 0, 0, 1, 0), [-0.3, 0.2, 0.99]),
    "shear_y": (lambda image, v: moved(image, 1, 0, 0, v, 1, 0), [0.3, -0.07]),
    "translate_x": (lambda image, v: moved(image, 1, 0, v, 0, 1, 0), [3, -4.3, 0.6]),
    "translate_y": (lambda image, v: moved(image, 1, 0, 0, 0, 1, v), [-2, 5.7]),
    "rotate": (lambda image, v: image.rotate(v), [30, -17.3, 90, 135, 4.5, 0]),
    "brightness": (lambda image, v: ImageEnhance.Brightness(image).enhance(v), None),
    "color": (lambda image, v: ImageEnhance.Color(image).enhance(v), None),
    "contrast": (lambda image, v: ImageEnhance.Contrast(image).enhance(v), None),
    "sharpness": (lambda image, v: ImageEnhance.Sharpness(image).enhance(v), None),
    "posterize": (lambda image, v: ImageOps.posterize(image, int(v)), [1, 4.9, 8]),
    "solarize": (ImageOps.solarize, [0, 128, 76.5, 255, 256]),
    "auto_contrast": (lambda image, _: ImageOps.autocontrast(image), [0]),
    "equalize": (lambda image, _: ImageOps.equalize(image), [0]),
}
FACTORS = [0.05, 1.0, 1.9, 0.63]

_RNG = np.random.default_rng(0)
IMAGES = {
    "noise": _RNG.integers(0, 256, (32, 32, 3), np.uint8),
    "narrow": _RNG.integers(40, 180, (17, 24, 3), np.uint8),
    "blocks": np.kron(
        _RNG.integers(0, 256, (4, 4, 3), np.uint8), np.ones((8, 8, 1), np.uint8)
    ),
    "one color": np.full((8, 8, 3), 7, np.uint8),
}
apply = jax.jit(operations.apply)
shift_hue = jax.jit(operations.shift_hue)


def test_every_operation_is_compared():
    assert tuple(PILLOW) == operations.NAMES


@pytest.mark.parametrize("name", operations.NAMES)
def test_pixels_are_those_of_pillow(name):
    by_pillow, values = PILLOW[name]
    for kind, image in IMAGES.items():
        for value in values or FACTORS:
            expected = np.asarray(by_pillow(Image.fromarray(image), value))
            found = apply(image, operations.NAMES.index(name), jnp.float32(value))
            np.testing.assert_array_equal(found, expected, f"{kind}, {value}")
            assert found.dtype == np.uint8


@pytest.mark.parametrize("by", [-0.5, -0.2, 0.0, 0.1, 0.37, 0.5])
def test_hues_are_those_of_torchvision_but_for_rounding(by):
    """Its `adjust_hue` of an image: a step of Pillow's hue is up to six of a color."""
    for image in IMAGES.values():
        hue, *others = Image.fromarray(image).convert("HSV").split()
        turned = np.asarray(hue) + np.asarray(int(by * 255)).astype(np.uint8)
        hsv = [Image.fromarray(turned), *others]
        expected = np.asarray(Image.merge("HSV", hsv).convert("RGB")).astype(int)
        found = np.asarray(shift_hue(image, jnp.float32(by))).astype(int)
        difference = np.abs(found - expected)
        assert difference.max() <= 6
        assert np.mean(difference > 0) < 0.005
