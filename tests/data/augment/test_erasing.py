import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from kdjax.data.augment import erasing

NUMBER, HEIGHT, WIDTH = 2048, 20, 30


@functools.cache
def eraser(probability):
    return jax.jit(
        functools.partial(
            erasing.random_erasing, probability=probability, batch_size=NUMBER
        )
    )


@functools.cache
def erased(probability, *, seed=0, start=0, stop=NUMBER):
    """Erases some images of a batch of ones; returns the masks of what is erased."""
    index, image = jnp.arange(start, stop), jnp.ones((stop - start, HEIGHT, WIDTH, 3))
    found = eraser(probability)(jax.random.key(seed), image, index_in_batch=index)
    found = np.asarray(found)
    np.testing.assert_array_equal(found, found[..., :1].repeat(3, -1))
    assert set(np.unique(found)) == {0, 1}
    return found[..., 0] == 0


def rectangles(mask):
    """Measures rectangles given as masks [N, H, W]: area, aspect, top and left."""
    rows, columns = mask.any(2), mask.any(1)
    np.testing.assert_array_equal(mask, rows[:, :, None] & columns[:, None])
    for side in (rows, columns):
        edges = np.diff(side.astype(int), prepend=0, append=0, axis=1)
        assert (np.abs(edges).sum(1) == 2).all()
    height, width = rows.sum(1), columns.sum(1)
    return height * width, height / width, rows.argmax(1), columns.argmax(1)


def by_the_paper(number):
    """Algorithm 1 of the paper, with whole pixels: one image after the other."""
    rng, found = np.random.default_rng(0), []
    while len(found) < number:
        area = HEIGHT * WIDTH * rng.uniform(0.02, 0.4)
        aspect = rng.uniform(0.3, 1 / 0.3)
        height, width = np.rint(np.sqrt([area * aspect, area / aspect])).clip(1)
        top, left = rng.integers(HEIGHT), rng.integers(WIDTH)
        if top + height <= HEIGHT and left + width <= WIDTH:
            found.append((height * width, height / width, top, left))
    return np.array(found).T


def test_rectangles_follow_the_distribution_of_the_paper():
    found, expected = rectangles(erased(1.0)), by_the_paper(20_000)
    for sample, reference in zip(found, expected, strict=True):
        assert scipy.stats.ks_2samp(sample, reference).pvalue > 1e-2


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_images_are_erased_with_the_given_probability(probability):
    found = erased(probability).any((1, 2)).mean()
    # Four standard deviations of the binomial distribution.
    tolerance = 4 * np.sqrt(probability * (1 - probability) / NUMBER)
    assert abs(found - probability) <= tolerance


def test_every_image_and_every_key_draws_anew():
    assert len({mask.tobytes() for mask in erased(1.0)}) > 0.9 * NUMBER
    assert (erased(1.0, seed=1) != erased(1.0)).any((1, 2)).mean() > 0.99


def test_draws_do_not_depend_on_sharding():
    half = NUMBER // 2
    shards = erased(0.25, start=0, stop=half), erased(0.25, start=half, stop=NUMBER)
    np.testing.assert_array_equal(np.concatenate(shards), erased(0.25))


def test_a_rectangle_that_never_fits_is_clipped(monkeypatch):
    monkeypatch.setattr(erasing, "_TRIALS", 1)
    keys = jax.random.split(jax.random.key(0), 256)
    draw = jax.vmap(lambda key: erasing._random_rectangle(key, HEIGHT, WIDTH))
    area, aspect, top, left = rectangles(np.asarray(draw(keys)))
    clipped = (top + np.sqrt(area * aspect) > HEIGHT - 0.5) | (
        left + np.sqrt(area / aspect) > WIDTH - 0.5
    )
    assert clipped.mean() > 0.5


def test_without_probability_the_images_stay_as_they_are():
    image = jnp.ones((2, HEIGHT, WIDTH, 3))
    found = erasing.random_erasing(
        jax.random.key(0),
        image,
        probability=0,
        index_in_batch=jnp.arange(2),
        batch_size=2,
    )
    assert found is image
