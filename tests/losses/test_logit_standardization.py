import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches


def standardized_kd(student, teacher):
    return losses.kd(
        *map(losses.standardize_logits, (student, teacher)), temperature=2.0
    )


def test_matches_the_authors_but_for_their_epsilon():
    """Without the weight of 9 that their code multiplies by."""

    def original(x):
        centered = x - jnp.mean(x, axis=1, keepdims=True)
        return centered / (1e-7 + jnp.std(x, axis=1, keepdims=True, ddof=1))

    def loss(student, teacher):
        return losses.kd(original(student), original(teacher), temperature=2.0)

    batches.assert_matches_reference(loss, "LSKD/T2", *batches.logits())
    batches.assert_matches_reference(
        standardized_kd, "LSKD/T2", *batches.logits(), rtol=1e-7
    )


def test_mean_0_and_deviation_1():
    with jax.enable_x64(True):
        found = np.asarray(losses.standardize_logits(jnp.asarray(batches.logits()[0])))
    np.testing.assert_allclose(np.mean(found, axis=1), 0, atol=1e-15)
    np.testing.assert_allclose(np.std(found, axis=1, ddof=1), 1, rtol=1e-14)


def test_invariant_to_scale_and_shift():
    student, teacher = batches.logits()
    np.testing.assert_allclose(
        standardized_kd(student, 7 * teacher - 30),
        standardized_kd(student, teacher),
        rtol=1e-5,
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_logits_become_0_with_no_gradient(value):
    found, pull_back = jax.vjp(losses.standardize_logits, jnp.full((2, 4), value))
    np.testing.assert_array_equal(found, 0)
    np.testing.assert_array_equal(pull_back(jnp.ones((2, 4)))[0], 0)


def test_degenerate_inputs():
    batches.assert_finite_logits(standardized_kd)
    batches.assert_computes_in_float32(standardized_kd, *batches.logits())
