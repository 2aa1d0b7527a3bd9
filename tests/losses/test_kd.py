import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_matches_repdistiller(temperature):
    loss = functools.partial(losses.kd, temperature=temperature)
    batches.assert_matches_reference(
        loss, f"KD/T{temperature:.0f}", *batches.logits(), rtol=1e-9
    )


def test_unscaled_matches_mhgd_code(golden):
    batches.assert_matches_baseline(
        lambda *x: losses.kd(*x, temperature=4.0) / 4**2,
        golden,
        "soft_logits_T4",
        "logits",
    )


def test_symmetric_matches_mhgd_code(golden):
    batches.assert_matches_baseline(losses.symmetric_kl, golden, "dml", "logits")


def test_by_hand():
    """KL((1/2, 1/2) || (1/4, 3/4)) = log(4/3) / 2."""
    student = jnp.asarray([[0.0, 2 * np.log(3)], [0.0, 0.0]])
    teacher = jnp.zeros((2, 2))
    found = losses.kd(student, teacher, temperature=2.0)
    np.testing.assert_allclose(found, [2 * np.log(4 / 3), 0], rtol=1e-6)


def test_high_temperatures_match_logits():
    """T^2 KL tends to |s - t|^2 / (2 K) of centered logits."""
    student, teacher = (x - x.mean(1, keepdims=True) for x in batches.logits())
    with jax.enable_x64(True):
        found = losses.kd(jnp.asarray(student), jnp.asarray(teacher), temperature=1e4)
    expected = np.square(student - teacher).sum(1) / 200
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("loss", [losses.kd, losses.symmetric_kl])
def test_zero_for_equal_logits(loss):
    student, _ = map(jnp.asarray, batches.logits())
    found, gradient = jax.value_and_grad(lambda x: jnp.sum(loss(x, student)))(student)
    assert found == 0
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_symmetric_is_the_mean_of_both_directions():
    student, teacher = map(jnp.asarray, batches.logits())
    one, other = (
        losses.kd(x, y, temperature=1.0)
        for x, y in ((student, teacher), (teacher, student))
    )
    found = losses.symmetric_kl(student, teacher)
    np.testing.assert_allclose(found, (one + other) / 2, rtol=1e-6)
    np.testing.assert_array_equal(found, losses.symmetric_kl(teacher, student))


@pytest.mark.parametrize("loss", [losses.kd, losses.symmetric_kl])
def test_degenerate_inputs(loss):
    batches.assert_finite_logits(loss)
    batches.assert_computes_in_float32(loss, *batches.logits())


@pytest.mark.parametrize("loss", [losses.kd, losses.symmetric_kl])
def test_rejects_different_shapes(loss):
    with pytest.raises(ValueError, match=r"student \(8, 100\) and teacher \(8, 10\)"):
        loss(np.zeros((8, 100)), np.zeros((8, 10)))
