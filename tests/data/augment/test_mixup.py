import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st

from kdjax import step as step_lib
from kdjax.data.augment import mixup

BATCH = 8


def images(seed=0):
    return np.random.default_rng(seed).normal(size=(BATCH, 4, 4, 3)).astype(np.float32)


@functools.cache
def mixer(alpha, devices):
    """Compiles mixup for a number of devices."""

    def per_device(key, image, index_in_batch):
        return mixup.mix(
            key,
            image,
            index_in_batch,
            alpha=alpha,
            index_in_batch=index_in_batch,
            batch_size=BATCH,
            axis_name=step_lib.DEVICES if devices > 1 else None,
        )

    return step_lib.data_parallel(
        per_device, jax.devices()[:devices], in_axes=(None, 0, 0), out_axes=0
    )


def mix(image, *, seed=0, alpha=1.0, devices=1):
    """Mixes a batch; labels are indices in it."""
    index_in_batch = np.arange(BATCH, dtype=np.int32)
    sharded = (x.reshape(devices, -1, *x.shape[1:]) for x in (image, index_in_batch))
    found = mixer(alpha, devices)(jax.random.key(seed), *sharded)
    return jax.tree.map(lambda x: np.asarray(x).reshape(BATCH, *x.shape[2:]), found)


def by_hand(image, mixed):
    """The formula of the paper in float64."""
    lam = mixed.lam.astype(np.float64)[:, None, None, None]
    return lam * image + (1 - lam) * image[mixed.label]


@pytest.mark.parametrize(("alpha", "devices"), [(1e-3, 1), (1.0, 4)])
def test_images_are_mixed_as_in_the_paper(alpha, devices):
    found, mixed = mix(images(), alpha=alpha, devices=devices)
    np.testing.assert_allclose(found, by_hand(images(), mixed), rtol=1e-5, atol=1e-6)
    assert (found.dtype, mixed.lam.dtype) == (np.float32, np.float32)
    # Partners come from all devices.
    assert any(mixed.label // 2 != np.arange(BATCH) // 2)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(seed=st.integers(0, 2**31 - 1))
def test_partners_are_a_permutation_the_same_on_any_number_of_devices(seed):
    image = images(1)
    one, mixed = mix(image, seed=seed)
    np.testing.assert_array_equal(np.sort(mixed.label), np.arange(BATCH))
    assert 0 <= mixed.lam[0] <= 1
    assert np.all(mixed.lam == mixed.lam[0])
    # So that mixing leaves the mean image as it was, and no pixel beyond the others.
    np.testing.assert_allclose(one.mean(0), image.mean(0), rtol=1e-4, atol=1e-5)
    assert np.all(one <= image.max(0) + 1e-6)
    assert np.all(one >= image.min(0) - 1e-6)
    four, mixed_on_four = mix(image, seed=seed, devices=4)
    jax.tree.map(np.testing.assert_array_equal, mixed_on_four, mixed)
    np.testing.assert_allclose(four, one, rtol=1e-6, atol=1e-6)


def test_lambda_follows_the_beta_distribution():
    alpha = 0.2

    def lam(key):
        index_in_batch = jnp.arange(2)
        image = jnp.zeros((2, 1, 1, 3))
        settings = {"alpha": alpha, "index_in_batch": index_in_batch, "batch_size": 2}
        return mixup.mix(key, image, index_in_batch, **settings)[1].lam[0]

    keys = jax.random.split(jax.random.key(0), 2000)
    found = np.asarray(jax.jit(jax.vmap(lam))(keys), np.float64)
    assert scipy.stats.kstest(found, "beta", (alpha, alpha)).pvalue > 1e-3


def test_an_alpha_of_zero_is_no_mixup():
    found, mixed = mix(images(), alpha=0.0)
    np.testing.assert_array_equal(found, images())
    assert mixed is None


def test_a_lambda_of_one_is_the_image_itself(monkeypatch):
    monkeypatch.setattr(jax.random, "beta", lambda *_, dtype: jnp.ones((), dtype))
    found, mixed = mix(images(), alpha=0.5)
    np.testing.assert_array_equal(found, images())
    np.testing.assert_array_equal(mixed.lam, 1)
    label = np.arange(BATCH)
    value = np.random.default_rng(0).normal(size=BATCH).astype(np.float32)
    np.testing.assert_array_equal(
        mixup.mixed_loss(lambda label: value[label], label, mixed), value
    )


def test_the_losses_of_both_classes_are_weighted_by_lambda():
    label = np.array([0, 1, 1])
    mixed = mixup.Mixed(np.array([1, 1, 0]), np.full(3, 0.75))
    value = np.array([4.0, 8.0])
    found = mixup.mixed_loss(lambda label: value[label], label, mixed)
    np.testing.assert_array_equal(found, [5, 8, 7])
    alone = mixup.mixed_loss(lambda label: value[label], label, None)
    np.testing.assert_array_equal(alone, [4, 8, 8])
