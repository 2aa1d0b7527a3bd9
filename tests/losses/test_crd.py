import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.numerics import l2_normalize
from tests.losses import batches, contrast
from tests.losses.feature_maps import reference


def test_matches_repdistiller():
    """Normalizers, loss, and gradient by the student's features."""
    expected = reference("CRD/n50_k16_dim32")
    others = {"student": "teacher", "teacher": "student"}

    def arguments(student, teacher):
        for side, x in contrast.embedded(student, teacher).items():
            yield side, (x, contrast.MEMORIES[others[side]], contrast.INDEX)

    with jax.enable_x64(True):
        log_z = {
            side: losses.crd_log_normalizer(*given, temperature=contrast.TEMPERATURE)
            for side, given in arguments(*map(jnp.asarray, batches.pooled()))
        }
    for side, name in (("student", "Z_v1"), ("teacher", "Z_v2")):
        np.testing.assert_allclose(np.exp(log_z[side]), expected[name], rtol=1e-9)

    def loss(student, teacher):
        return sum(
            losses.crd(
                *given, log_normalizer=log_z[side], temperature=contrast.TEMPERATURE
            )
            for side, given in arguments(student, teacher)
        )

    batches.assert_matches_reference(loss, "CRD/n50_k16_dim32", *batches.pooled())


def test_by_hand():
    """Scores log 2 and 0; Z = 2: h = 1 of the image itself, 1/2 of its negatives."""
    embedding = np.array([[1.0, 0.0]])
    memory = np.array([[np.log(2), 5.0], [0.0, 1.0], [0.0, 7.0], [9.0, 9.0]])
    index = np.array([[0, 1, 2, 1]])
    with jax.enable_x64(True):
        found = losses.crd(
            jnp.asarray(embedding),
            memory,
            index,
            log_normalizer=np.log(2),
            temperature=1.0,
        )
        log_z = losses.crd_log_normalizer(
            jnp.asarray(embedding), memory, index, temperature=1.0
        )
    noise = 3 / 4
    expected = -np.log(1 / (1 + noise)) - 3 * np.log(noise / (0.5 + noise))
    np.testing.assert_allclose(found, [expected], rtol=1e-6)
    np.testing.assert_allclose(log_z, np.log(4 * (2 + 1 + 1 + 1) / 4), rtol=1e-12)


def test_large_scores_do_not_overflow():
    """Where exp(score) and the normalizer itself are beyond float64."""
    embedding, memory = (
        l2_normalize(batches.drawn(seed, size, 4, dtype="float32"))
        for seed, size in ((0, 3), (2, 12))
    )
    index = np.array([[4, 0, 0, 2], [9, 3, 11, 4], [2, 2, 7, 8]])
    log_z = losses.crd_log_normalizer(embedding, memory, index, temperature=1e-3)
    score = np.float64(embedding) @ np.float64(memory).T / 1e-3
    expected = np.logaddexp.reduce(np.take_along_axis(score, index, 1).ravel())
    np.testing.assert_allclose(log_z, expected + np.log(12 / index.size), rtol=1e-5)
    assert log_z > np.log(np.finfo(np.float64).max)
    for normalizer in (log_z, 0.0):
        loss = functools.partial(
            losses.crd, index=index, log_normalizer=normalizer, temperature=1e-3
        )
        # The memory is a constant of the loss.
        batches.assert_finite(lambda x, _, f=loss: f(x, memory), [(embedding,) * 2])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_computes_in_float32(dtype):
    embedding, memory = (
        jnp.asarray(batches.drawn(seed, 3, 4), dtype) for seed in (0, 1)
    )
    index = np.array([[0, 1], [1, 2], [2, 0]])
    found = losses.crd(embedding, memory, index, log_normalizer=0.0)
    assert (found.shape, found.dtype) == ((3,), jnp.float32)
    log_z = losses.crd_log_normalizer(embedding, memory, index)
    assert (log_z.shape, log_z.dtype) == ((), jnp.float32)


def test_four_devices_match_one():
    """The normalizer, which is of the batch of all devices."""
    embedding, memory = batches.drawn(0, 8, 4), batches.drawn(1, 12, 4)
    index = np.random.RandomState(2).randint(0, 12, (8, 6))
    with jax.enable_x64(True):
        expected = losses.crd_log_normalizer(jnp.asarray(embedding), memory, index)
        found = jax.pmap(
            lambda x, i: losses.crd_log_normalizer(x, memory, i, axis_name="batch"),
            axis_name="batch",
            devices=jax.devices()[:4],
        )(embedding.reshape(4, 2, 4), index.reshape(4, 2, 6))
    np.testing.assert_allclose(found, np.full(4, expected), rtol=1e-12)


@pytest.mark.parametrize(
    ("memory", "index"), [((5, 3), (2, 4)), ((5, 4), (3, 4)), ((5, 4), (2, 1))]
)
def test_rejects_invalid_inputs(memory, index):
    with pytest.raises(ValueError, match=r"crd: embedding \(2, 4\), memory"):
        losses.crd(
            np.zeros((2, 4)),
            np.zeros(memory),
            np.zeros(index, np.int32),
            log_normalizer=0.0,
        )
    with pytest.raises(ValueError, match=r"crd_log_normalizer: temperature=0"):
        losses.crd_log_normalizer(
            np.zeros((2, 4)), np.zeros((5, 4)), np.zeros((2, 3), int), temperature=0
        )
