import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from kdjax import step as step_lib
from kdjax.data.augment import cutmix, mixup

BATCH, SIZE = 8, 6


def images():
    shape = (BATCH, SIZE, SIZE, 3)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@functools.cache
def mixer(devices, alpha, probability, mixup_alpha):
    def per_device(key, image, index_in_batch):
        return cutmix.mix(
            key,
            image,
            index_in_batch,
            alpha=alpha,
            probability=probability,
            mixup_alpha=mixup_alpha,
            index_in_batch=index_in_batch,
            batch_size=BATCH,
            axis_name=step_lib.DEVICES if devices > 1 else None,
        )

    return step_lib.data_parallel(
        per_device, jax.devices()[:devices], in_axes=(None, 0, 0), out_axes=0
    )


def mix(seed, *, devices=1, alpha=1.0, probability=1.0, mixup_alpha=0.0):
    """Mixes a batch; labels are indices in it."""
    index_in_batch = np.arange(BATCH, dtype=np.int32)
    sharded = (x.reshape(devices, -1, *x.shape[1:]) for x in (images(), index_in_batch))
    found = mixer(devices, alpha, probability, mixup_alpha)(
        jax.random.key(seed), *sharded
    )
    return jax.tree.map(lambda x: np.asarray(x).reshape(BATCH, *x.shape[2:]), found)


@pytest.mark.parametrize("devices", [1, 4])
def test_one_rectangle_comes_from_the_partner_and_lambda_is_what_stays(devices):
    areas = set()
    for seed in range(6):
        found, mixed = mix(seed, devices=devices)
        other = images()[mixed.label]
        pasted = np.any(found != images(), axis=-1)[mixed.label != np.arange(BATCH)]
        inside = pasted.any(0)
        assert np.all(pasted == inside)
        rows, columns = inside.any(1), inside.any(0)
        np.testing.assert_array_equal(inside, np.outer(rows, columns))
        expected = np.where(inside[None, :, :, None], other, images())
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(mixed.lam, 1 - inside.mean(), rtol=1e-6)
        areas.add(inside.sum())
    assert len(areas) > 2


def test_a_batch_is_the_same_on_one_device_and_on_four():
    for seed in range(2):
        one, four = (mix(seed, devices=n) for n in (1, 4))
        jax.tree.map(np.testing.assert_array_equal, four, one)


def original_lambda(rng, height, width, alpha):
    """Of the released `rand_bbox` and what follows it, by NumPy."""
    ratio = np.sqrt(1 - rng.beta(alpha, alpha))
    spans = []
    for size in (width, height):
        half, center = int(size * ratio) // 2, rng.integers(size)
        ends = np.clip([center - half, center + half], 0, size)
        spans.append(ends[1] - ends[0])
    return 1 - spans[0] * spans[1] / (height * width)


def test_rectangles_are_distributed_as_in_the_original():
    height, width, alpha, draws = 32, 24, 0.7, 3000
    keys = jax.random.split(jax.random.key(0), draws)
    draw = jax.vmap(lambda key: cutmix.box(key, height, width, alpha=alpha))
    inside = np.asarray(jax.jit(draw)(keys))
    rng = np.random.default_rng(1)
    expected = [original_lambda(rng, height, width, alpha) for _ in range(draws)]
    found = 1 - inside.mean((1, 2))
    assert scipy.stats.ks_2samp(found, expected).pvalue > 1e-3
    # Anywhere: as often in the first row as in the last but for the rounding down.
    often = inside.mean((0, 2))
    assert often[height // 2] > 1.5 * often[0] > often[-1]


@pytest.mark.parametrize("mixup_alpha", [0.0, 1.0])
def test_other_batches_are_mixed_by_mixup_or_not_at_all(mixup_alpha):
    cut = 0
    for seed in range(40):
        found, mixed = mix(seed, probability=0.3, mixup_alpha=mixup_alpha)
        lam = mixed.lam[0]
        other = images()[mixed.label]
        blended = lam * images() + (1 - lam) * other
        is_blended = np.allclose(found, blended, atol=1e-5)
        assert is_blended or np.all((found == images()) | (found == other))
        cut += not is_blended
        if not mixup_alpha and is_blended:
            np.testing.assert_array_equal(found, images())
            assert lam == 1
    assert 4 <= cut <= 22


def test_without_cutmix_it_is_mixup_to_the_bit():
    found = mix(3, alpha=0.0, mixup_alpha=0.5)
    index_in_batch = jnp.arange(BATCH)
    settings = {"index_in_batch": index_in_batch, "batch_size": BATCH}
    expected = jax.jit(
        lambda key, image: mixup.mix(key, image, index_in_batch, alpha=0.5, **settings)
    )(jax.random.key(3), images())
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert mix(0, alpha=0.0)[1] is None
