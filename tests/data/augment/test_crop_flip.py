import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data import augment, normalization
from kdjax.data.augment import crop_flip

SIZE = 8
PADDING = 2


def image(number=64):
    """Images in which every pixel has a value of its own."""
    pixel = np.arange(SIZE * SIZE * 3, dtype=np.uint8).reshape(1, SIZE, SIZE, 3)
    return np.repeat(pixel, number, axis=0)


def crops(mode):
    """Returns every crop of the padded image, and of its mirror image."""
    numpy_mode = {"reflect": "reflect", "zero": "constant"}[mode]
    width = ((PADDING, PADDING), (PADDING, PADDING), (0, 0))
    padded = np.pad(image(1)[0], width, mode=numpy_mode)
    found = {}
    for flip in (False, True):
        source = padded[:, ::-1] if flip else padded
        for row in range(2 * PADDING + 1):
            for column in range(2 * PADDING + 1):
                crop = source[row : row + SIZE, column : column + SIZE]
                found[crop.tobytes()] = (flip, row, column)
    return found


@functools.cache
def augmented(mode, *, flip=True, crop="per_image", padding=PADDING, index=None):
    """Augments a batch of 512 images, or some of them."""
    index = np.arange(512) if index is None else np.asarray(index)
    function = functools.partial(
        augment.random_crop_flip,
        batch_size=512,
        padding=padding,
        mode=mode,
        flip=flip,
        crop=crop,
    )
    found = jax.jit(function)(
        jax.random.key(0), image(len(index)), index_in_batch=jnp.asarray(index)
    )
    return np.asarray(found)


@pytest.mark.parametrize("mode", augment.PADDING_MODES)
def test_every_crop_is_drawn_and_nothing_else(mode):
    expected = crops(mode)
    found = [expected[x.tobytes()] for x in augmented(mode)]
    # 50 crops in 512 draws: the chance that one is missing is below 0.2 %.
    assert set(found) == set(expected.values())
    flipped = sum(flip for flip, _, _ in found)
    assert 200 < flipped < 312


def test_without_flip_nothing_is_flipped():
    expected = crops("reflect")
    found = {expected[x.tobytes()][0] for x in augmented("reflect", flip=False)}
    assert found == {False}


def test_draws_depend_on_the_index_in_the_batch():
    part = augmented("reflect", index=(112, 3))
    np.testing.assert_array_equal(part, augmented("reflect")[[112, 3]])


def test_a_crop_per_batch_is_the_same_for_all_images():
    expected = crops("reflect")
    found = {expected[x.tobytes()] for x in augmented("reflect", crop="per_batch")}
    # One crop of the images, and one of their mirror images.
    assert sorted(flip for flip, _, _ in found) == [False, True]


def test_without_padding_and_flip_images_stay_as_they_are():
    found = augmented("reflect", padding=0, flip=False)
    np.testing.assert_array_equal(found, image(512))
    assert found.dtype == np.uint8


def test_normalize_is_per_color_in_units_of_pixels():
    pixels = np.zeros((1, 1, 1, 3), np.uint8) + np.asarray([0, 100, 255], np.uint8)
    result = normalization.normalize(
        jnp.asarray(pixels), mean=(0.0, 50.0, 127.5), std=(1.0, 25.0, 127.5)
    )
    np.testing.assert_allclose(result.ravel(), [0.0, 2.0, 1.0])
    assert result.dtype == np.float32


def test_products_select_the_pixels_that_a_gather_selects():
    """Every value of a pixel, and every row and column, is among them."""
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.randint(keys[0], (16, 8, 6, 3), 0, 256).astype(jnp.uint8)
    assert set(np.unique(images)) == set(range(256))
    row = jax.random.randint(keys[1], (16, 8), 0, 8)
    column = jax.random.randint(keys[2], (16, 6), 0, 6)
    for rows in (row, row[:1]):
        found = jax.jit(crop_flip.select_by_products)(images, rows, column)
        expected = crop_flip.select_by_gather(images, rows, column)
        assert found.dtype == jnp.uint8
        np.testing.assert_array_equal(found, expected)


def test_a_tpu_gathers_no_pixels():
    function = functools.partial(
        augment.random_crop_flip,
        batch_size=4,
        padding=PADDING,
        mode="zero",
        flip=True,
    )
    traced = jax.jit(function).trace(
        jax.random.key(0), image(4), index_in_batch=jnp.arange(4)
    )
    gathers = {
        platform: str(traced.lower(lowering_platforms=(platform,)).as_text()).count(
            "4x8x8x3xui8>, tensor<4x8x8x3xi32>"
        )
        for platform in ("tpu", "cpu", "cuda")
    }
    assert gathers == {"tpu": 0, "cpu": 1, "cuda": 1}
