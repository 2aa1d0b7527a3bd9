import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill.dist import Dist, correlation
from tests.distill.logits import (
    assert_four_devices_match_one,
    assert_matches_reference,
    assert_terms_are_float32,
    public_logits,
    terms_of,
    value,
)


def test_value_and_gradient_match_reference():
    assert_matches_reference(functools.partial(value, Dist()), "DIST/beta1_gamma1_tau1")


def test_factors_and_temperature():
    student, teacher = public_logits()
    plain = terms_of(Dist(), student / 2, teacher / 2)
    found = terms_of(Dist(temperature=2.0, beta=3.0, gamma=5.0), student, teacher)
    np.testing.assert_allclose(
        found["inter_class"], 12 * plain["inter_class"], rtol=1e-6
    )
    np.testing.assert_allclose(
        found["intra_class"], 20 * plain["intra_class"], rtol=1e-6
    )


def test_four_devices_match_one():
    assert_four_devices_match_one(Dist())


def test_correlation_matches_numpy():
    x, y = (a[:, :9] for a in public_logits())
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]
    found = correlation(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3])
def test_constant_logits_have_zero_correlation(constant):
    """Rows of the student without variance, and so columns too."""
    _, teacher = public_logits()
    student = jnp.full((8, 100), constant)
    found, gradient = jax.value_and_grad(lambda x: value(Dist(), x, teacher))(student)
    np.testing.assert_allclose(found, 2, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)


def test_batch_of_one():
    student, teacher = (jnp.asarray(x[:1]) for x in public_logits())
    terms = terms_of(Dist(), student, teacher)
    np.testing.assert_array_equal(terms["intra_class"], 1)
    gradient = jax.grad(lambda x: value(Dist(), x, teacher))(student)
    assert np.isfinite(gradient).all()
    assert np.any(gradient != 0)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e3, 1e30])
def test_finite_at_any_scale(scale):
    student, teacher = (jnp.asarray(scale * x, jnp.float32) for x in public_logits())
    found, gradient = jax.value_and_grad(lambda x: value(Dist(), x, teacher))(student)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_terms_are_float32_for_any_logit_dtype(dtype):
    assert_terms_are_float32(Dist(), dtype)


def test_near_zero_for_equal_logits():
    """What is left is the 1e-8 of the original, at classes of little probability."""
    student, _ = public_logits()
    # Softer, so that every class varies over the batch.
    assert value(Dist(temperature=10.0), student, student) < 0.1
    inter_class = terms_of(Dist(), student, student)["inter_class"]
    np.testing.assert_allclose(inter_class, 0, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": -1.0}, r"methods\.dist\.temperature=-1\.0 is not above 0"),
        ({"scope": "host"}, r"methods\.dist\.scope='host' is none of"),
    ],
)
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        Dist(**given)
