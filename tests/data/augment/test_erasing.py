import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data.augment import erasing

NUMBER, HEIGHT, WIDTH = 256, 20, 30


def image(number=NUMBER):
    return jnp.ones((number, HEIGHT, WIDTH, 3))


@functools.cache
def erased(probability, seed=0, first=0, last=NUMBER):
    """Erases some examples of a batch, as one device does."""
    found = jax.jit(
        functools.partial(
            erasing.random_erasing, probability=probability, batch_size=NUMBER
        )
    )(jax.random.key(seed), image(last - first), index_in_batch=jnp.arange(first, last))
    return np.asarray(found)


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_so_many_images_lose_a_rectangle(probability):
    lost = (erased(probability) == 0).any((1, 2, 3))
    # Within four standard deviations of the binomial.
    spread = 4 * np.sqrt(probability * (1 - probability) / NUMBER)
    assert abs(lost.mean() - probability) <= spread


def test_what_is_lost_is_one_rectangle_of_every_color():
    areas, aspects = [], []
    for one in erased(1.0):
        gone = one == 0
        np.testing.assert_array_equal(gone, gone[..., :1].repeat(3, -1))
        rows, columns = gone.any((1, 2)), gone.any((0, 2))
        np.testing.assert_array_equal(gone[..., 0], np.outer(rows, columns))
        for line in (rows, columns):
            # One piece: it begins once at most and ends once at most.
            assert np.abs(np.diff(line.astype(int), prepend=0, append=0)).sum() == 2
        assert (one[~gone] == 1).all()
        areas.append(gone.mean())
        aspects.append(columns.mean() / rows.mean())
    # The ranges that Keras documents, to a pixel on each side.
    assert 0.01 < min(areas) < 0.06
    assert 0.2 < max(areas) < 0.4
    assert min(aspects) < 0.6
    assert max(aspects) > 1.6


def test_every_example_and_every_key_draws_anew():
    places = {one.tobytes() for one in erased(1.0)}
    assert len(places) > 0.9 * NUMBER
    assert (erased(1.0, seed=1) != erased(1.0)).any((1, 2, 3)).mean() > 0.9


def test_what_is_drawn_does_not_depend_on_the_share():
    half = NUMBER // 2
    shares = erased(0.5, 0, 0, half), erased(0.5, 0, half, NUMBER)
    np.testing.assert_array_equal(np.concatenate(shares), erased(0.5))


def test_nothing_is_lost_without():
    whole = image(2)
    assert (
        erasing.random_erasing(
            jax.random.key(0),
            whole,
            probability=0,
            index_in_batch=jnp.arange(2),
            batch_size=2,
        )
        is whole
    )
