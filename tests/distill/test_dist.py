import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill.dist import Dist, correlation
from tests.distill.logits import (
    assert_as_referred,
    assert_float32_whatever,
    assert_four_devices_are_one,
    public_logits,
    terms_of,
    value,
)


def test_value_and_gradient_are_the_public_ones():
    assert_as_referred(functools.partial(value, Dist()), "DIST/beta1_gamma1_tau1")


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


def test_one_device_and_four_agree():
    assert_four_devices_are_one(Dist())


def test_correlation_is_pearsons():
    x, y = (a[:, :9] for a in public_logits())
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]
    found = correlation(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3])
def test_constant_logits_correlate_with_nothing(constant):
    """Rows of the student without variance, and so columns too."""
    _, teacher = public_logits()
    student = jnp.full((8, 100), constant)
    found, gradient = jax.value_and_grad(lambda x: value(Dist(), x, teacher))(student)
    np.testing.assert_allclose(found, 2, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)


def test_a_batch_of_one_has_no_relation_over_the_batch():
    student, teacher = (jnp.asarray(x[:1]) for x in public_logits())
    terms = terms_of(Dist(), student, teacher)
    np.testing.assert_array_equal(terms["intra_class"], 1)
    gradient = jax.grad(lambda x: value(Dist(), x, teacher))(student)
    assert np.isfinite(gradient).all()
    assert np.any(gradient != 0)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e3, 1e30])
def test_values_and_gradients_are_finite_at_any_scale(scale):
    student, teacher = (jnp.asarray(scale * x, jnp.float32) for x in public_logits())
    found, gradient = jax.value_and_grad(lambda x: value(Dist(), x, teacher))(student)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_losses_are_float32_whatever_the_logits(dtype):
    assert_float32_whatever(Dist(), dtype)


def test_equal_logits_have_next_to_no_loss():
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
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Dist(**given)
