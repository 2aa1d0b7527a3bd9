import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data import augment, normalization

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


def augmented(mode, *, flip=True, number=512, index_in_batch=None):
    index_in_batch = np.arange(number) if index_in_batch is None else index_in_batch
    return augment.random_crop_flip(
        jax.random.key(0),
        jnp.asarray(image(len(index_in_batch))),
        index_in_batch=jnp.asarray(index_in_batch),
        batch_size=number,
        padding=PADDING,
        mode=mode,
        flip=flip,
    )


@pytest.mark.parametrize("mode", augment.PADDING_MODES)
def test_every_result_is_a_crop_and_every_crop_comes_up(mode):
    expected = crops(mode)
    found = [expected[np.asarray(x).tobytes()] for x in augmented(mode)]
    # 50 crops in 512 draws: the chance that one is missing is below 0.2 %.
    assert set(found) == set(expected.values())
    flipped = sum(flip for flip, _, _ in found)
    assert 200 < flipped < 312


def test_without_flip_nothing_is_mirrored():
    expected = crops("reflect")
    found = {
        expected[np.asarray(x).tobytes()][0] for x in augmented("reflect", flip=False)
    }
    assert found == {False}


def test_an_example_depends_on_its_place_in_the_batch_alone():
    whole = augmented("reflect", number=16)
    part = augmented("reflect", number=16, index_in_batch=np.asarray([12, 3]))
    np.testing.assert_array_equal(part, whole[np.asarray([12, 3])])


def test_a_crop_per_batch_is_the_same_for_all():
    results = augment.random_crop_flip(
        jax.random.key(0),
        jnp.asarray(image(32)),
        index_in_batch=jnp.arange(32),
        batch_size=32,
        padding=PADDING,
        mode="reflect",
        flip=True,
        crop="per_batch",
    )
    expected = crops("reflect")
    found = {expected[np.asarray(result).tobytes()] for result in results}
    assert {flip for flip, _, _ in found} == {False, True}
    # A place in the mirror image is another one in the image.
    assert len(found) == 2


def test_no_padding_and_no_flip_is_the_image():
    result = augment.random_crop_flip(
        jax.random.key(0),
        jnp.asarray(image(4)),
        index_in_batch=jnp.arange(4),
        batch_size=4,
        padding=0,
        mode="reflect",
        flip=False,
    )
    np.testing.assert_array_equal(result, image(4))
    assert result.dtype == np.uint8


def test_normalize_is_per_color_in_units_of_pixels():
    pixels = np.zeros((1, 1, 1, 3), np.uint8) + np.asarray([0, 100, 255], np.uint8)
    result = normalization.normalize(
        jnp.asarray(pixels), mean=(0.0, 50.0, 127.5), std=(1.0, 25.0, 127.5)
    )
    np.testing.assert_allclose(result.ravel(), [0.0, 2.0, 1.0])
    assert result.dtype == np.float32
