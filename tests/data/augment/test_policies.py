"""Which operations RandAugment and its kin draw, and by how much."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from kdjax.data.augment import color_jitter, operations, policies
from kdjax.data.augment.operations import NAMES

NUMBER, HEIGHT, WIDTH = 4096, 20, 30


@functools.cache
def draws(policy, magnitude=9):
    """Returns operations and values of many images, [N] each."""
    keys = jax.random.split(jax.random.key(0), NUMBER)
    draw = functools.partial(policies.drawn, policy, magnitude, HEIGHT, WIDTH)
    return jax.device_get(jax.jit(jax.vmap(draw))(keys))


def values(policy, name, **settings):
    chosen, found = draws(policy, **settings)
    return found[chosen == NAMES.index(name)]


@pytest.mark.parametrize("policy", policies.POLICIES[1:])
def test_operations_are_drawn_alike(policy):
    chosen, _ = draws(policy)
    counts = np.bincount(chosen, minlength=len(NAMES))
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


#: `_augmentation_space` of torchvision's `RandAugment`, at the ninth of 31 magnitudes.
RAND_AUGMENT = {
    "shear_x": 0.09,
    "translate_x": int(0.3 * 150 / 331 * WIDTH),
    "translate_y": int(0.3 * 150 / 331 * HEIGHT),
    "rotate": 9.0,
    "contrast": 0.27,
}


@pytest.mark.parametrize("name", RAND_AUGMENT)
def test_rand_augment_has_one_magnitude_of_either_sign(name):
    found = values("rand_augment", name)
    neutral = 1.0 if name == "contrast" else 0.0
    size = RAND_AUGMENT[name]
    np.testing.assert_allclose(np.abs(found - neutral), size, rtol=1e-5)
    below = np.sum(found < neutral)
    assert scipy.stats.binomtest(int(below), len(found)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "magnitude", "expected"),
    [
        ("posterize", 9, 7),
        ("posterize", 30, 4),
        ("solarize", 9, 178.5),
        ("equalize", 9, 0),
    ],
)
def test_magnitudes_without_a_sign(name, magnitude, expected):
    found = values("rand_augment", name, magnitude=magnitude)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "most"), [("shear_y", 0.99), ("rotate", 135), ("sharpness", 0.99)]
)
def test_trivial_augment_draws_one_of_31_magnitudes(name, most):
    size = np.abs(values("trivial_augment", name) - (name == "sharpness"))
    bins = size / most * 30
    np.testing.assert_allclose(bins, np.round(bins), atol=1e-4)
    counts = np.bincount(np.round(bins).astype(int), minlength=31)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("brightness", 0.05, 0.95),
        ("rotate", -30, 30),
        ("translate_y", -0.3 * HEIGHT, 0.3 * HEIGHT),
        ("solarize", 0, 256),
    ],
)
def test_fixmatch_draws_uniform_values(name, low, high):
    found = values("fixmatch", name)
    assert scipy.stats.kstest(found, "uniform", (low, high - low)).pvalue > 1e-3


def test_cutouts_are_those_of_the_release():
    """Of squares drawn as its `CutoutAbs` does, with numpy."""
    keys = jax.random.split(jax.random.key(1), NUMBER)
    image = jnp.zeros((HEIGHT, WIDTH, 3), jnp.uint8)
    found = np.asarray(jax.jit(jax.vmap(policies.cutout, (0, None)))(keys, image))
    assert {tuple(x) for x in found.reshape(-1, 3)} == {(0, 0, 0), (125, 123, 114)}
    filled = found[..., 0] > 0
    rng, areas = np.random.RandomState(0), []
    for _ in range(NUMBER):
        side = rng.random_sample() * 0.5 * WIDTH
        spans = []
        for size in (WIDTH, HEIGHT):
            start = int(max(0, rng.uniform(size) - side / 2))
            end = int(min(size, start + side))
            spans.append(min(end, size - 1) - start + 1)
        areas.append(spans[0] * spans[1])
    area = filled.sum((1, 2))
    assert scipy.stats.ks_2samp(area, areas).pvalue > 1e-3


@functools.cache
def augmenter(policy):
    given = {"policy": policy, "count": 2, "magnitude": 9, "batch_size": 8}
    return jax.jit(functools.partial(policies.augment, **given))


IMAGE = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), np.uint8)


@pytest.mark.parametrize("policy", policies.POLICIES)
def test_an_image_depends_on_its_place_in_the_batch_alone(policy):
    key, augment = jax.random.key(3), augmenter(policy)
    whole = augment(key, IMAGE, index_in_batch=jnp.arange(8))
    part = augment(key, IMAGE[4:6], index_in_batch=jnp.arange(4, 6))
    np.testing.assert_array_equal(whole[4:6], part)
    other = augment(jax.random.key(4), IMAGE, index_in_batch=jnp.arange(8))
    if policy == "none":
        np.testing.assert_array_equal(whole, IMAGE)
    else:
        assert np.any(whole != IMAGE)
        assert np.any(whole != other)


def test_operations_follow_one_another():
    """RandAugment's two, with the draws of the image's key."""
    augment = augmenter("rand_augment")
    found = augment(jax.random.key(3), IMAGE, index_in_batch=jnp.arange(8))
    key = jax.random.split(jax.random.key(3), 8)[5]
    image = IMAGE[5]
    for one in jax.random.split(key, 3)[:2]:
        operation, value = policies.drawn("rand_augment", 9, 12, 12, one)
        image = apply(image, operation, value)
    np.testing.assert_array_equal(found[5], image)


STRENGTH = (0.4, 1.5, 0.2, 0.1)
apply = jax.jit(operations.apply)
adjust = jax.jit(color_jitter.adjust, static_argnames="hue")


def test_jitter_draws_uniform_factors():
    keys = jax.random.split(jax.random.key(0), NUMBER)
    found = jax.vmap(lambda key: color_jitter.drawn(key, STRENGTH))(keys)
    ranges = [(0.6, 1.4), (0.0, 2.5), (0.8, 1.2), (-0.1, 0.1)]
    for factor, (low, high) in zip(found.T, ranges, strict=True):
        assert scipy.stats.kstest(factor, "uniform", (low, high - low)).pvalue > 1e-3


def test_jitter_adjusts_by_the_operations():
    image = IMAGE[0]
    for which, name in enumerate(("brightness", "contrast", "color")):
        found = adjust(image, jnp.int32(which), jnp.float32(1.3), hue=True)
        wanted = apply(image, NAMES.index(name), jnp.float32(1.3))
        np.testing.assert_array_equal(found, wanted)
    turned = adjust(image, jnp.int32(3), jnp.float32(0.2), hue=True)
    np.testing.assert_array_equal(turned, operations.shift_hue(image, 0.2))
    kept = adjust(image, jnp.int32(3), jnp.float32(0.0), hue=False)
    np.testing.assert_array_equal(kept, image)


def test_jitter_changes_colors_in_a_random_order():
    key = jax.random.key(0)
    jitter = jax.jit(
        functools.partial(color_jitter.color_jitter, key, batch_size=8),
        static_argnames="strength",
    )
    index = jnp.arange(8)
    np.testing.assert_array_equal(
        jitter(IMAGE, strength=(0.0,) * 4, index_in_batch=index), IMAGE
    )
    found = jitter(IMAGE, strength=STRENGTH, index_in_batch=index)
    part = jitter(IMAGE[2:4], strength=STRENGTH, index_in_batch=index[2:4])
    np.testing.assert_array_equal(found[2:4], part)
    orders = {
        tuple(jax.random.permutation(jax.random.split(one)[0], 4).tolist())
        for one in jax.random.split(key, 8)
    }
    assert len(orders) > 4
    order_key, value_key = jax.random.split(jax.random.split(key, 8)[1])
    image, values = IMAGE[1], color_jitter.drawn(value_key, STRENGTH)
    for which in jax.random.permutation(order_key, 4):
        image = adjust(image, which, values[which], hue=True)
    np.testing.assert_array_equal(found[1], image)
