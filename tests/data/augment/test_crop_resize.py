import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kdjax.data.augment import crop_resize

SIDE = st.integers(1, 600)


def grid(width, height):
    """Returns an image whose red is its column and whose green is its row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(pixels)


@pytest.mark.parametrize("part", [1.0, 0.5])
def test_the_center_crop_is_a_fraction_of_the_shorter_side(part):
    found = np.asarray(
        crop_resize.center_crop_resize(grid(200, 100), int(100 * part), part)
    )
    np.testing.assert_array_equal(
        found[0, :, 0], 50 + 25 * (part < 1) + np.arange(100 * part)
    )
    np.testing.assert_array_equal(
        found[:, 0, 1], 25 * (part < 1) + np.arange(100 * part)
    )


def test_the_center_crop_is_close_to_that_of_torchvision():
    smooth = grid(128, 96).resize((400, 300), Image.Resampling.BICUBIC)
    found = np.asarray(crop_resize.center_crop_resize(smooth, 56, 56 / 64))
    resized = smooth.resize((round(400 * 64 / 300), 64), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 56) / 2), round((resized.height - 56) / 2)
    expected = np.asarray(resized.crop((left, top, left + 56, top + 56)))
    # Rounding moves it by half a pixel at most, which is a level or so here.
    assert np.max(np.abs(found.astype(int) - expected)) <= 2


def test_without_a_size_the_image_stays_as_it_is():
    image = grid(7, 5)
    assert crop_resize.center_crop_resize(image, 0) is image


@given(SIDE, SIDE, st.integers(0, 2**32))
def test_a_random_crop_box_lies_within_the_image(width, height, seed):
    left, top, right, bottom = crop_resize.random_crop_box(
        (width, height), np.random.default_rng(seed)
    )
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_random_crop_boxes_have_the_sizes_and_shapes_of_the_original():
    rng = np.random.default_rng(0)
    parts = np.array(
        [crop_resize.random_crop_box((400, 400), rng) for _ in range(4000)]
    )
    across, down = (parts[:, 2:] - parts[:, :2]).T
    area, aspect = across * down / 160_000, across / down
    assert area.min() > 0.079
    assert area.max() <= 1
    assert 0.74 < aspect.min() < 0.76
    assert 1.32 < aspect.max() < 1.35
    # Large parts that are no squares do not fit in and are drawn again.
    assert np.mean(area) == pytest.approx(0.478, abs=0.015)
    assert np.mean(np.log(aspect)) == pytest.approx(0, abs=0.015)
    center = (parts[:, 0] + parts[:, 2]) / 2
    assert center.mean() == pytest.approx(200, abs=3)


def test_very_long_images_are_cropped_at_the_center():
    part = crop_resize.random_crop_box((600, 10), np.random.default_rng(0))
    assert part == (293, 0, 306, 10)
    part = crop_resize.random_crop_box((10, 600), np.random.default_rng(0))
    assert part == (0, 293, 10, 306)


def test_a_random_crop_is_resized():
    image, rng = grid(90, 80), np.random.default_rng(3)
    left, top, right, bottom = crop_resize.random_crop_box(
        image.size, np.random.default_rng(3)
    )
    found = np.asarray(crop_resize.random_resized_crop(image, 16, rng)).astype(float)
    assert found.shape == (16, 16, 3)
    assert math.isclose(found[..., 0].mean(), (left + right - 1) / 2, abs_tol=1)
    assert math.isclose(found[..., 1].mean(), (top + bottom - 1) / 2, abs_tol=1)
