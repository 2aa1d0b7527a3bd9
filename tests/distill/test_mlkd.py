import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill.mlkd import Mlkd
from tests.distill.logits import (
    assert_as_referred,
    assert_float32_whatever,
    assert_four_devices_are_one,
    public_logits,
    terms_of,
    value,
)


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("KD/T4", "divergence"),
        ("MLKD/bc_T4", "batch_correlation"),
        ("MLKD/cc_T4", "class_correlation"),
    ],
)
def test_value_and_gradient_of_each_level_are_the_public_ones(name, term):
    """Without the masks: of the public code's functions, not of what it makes of them.

    It multiplies sums by masks and takes the mean, which chooses nothing.
    """
    method = Mlkd(temperatures=(4.0,))
    assert_as_referred(lambda *x: jnp.mean(terms_of(method, *x)[term]), name)


def test_temperatures_add_up():
    student, teacher = public_logits()
    found = terms_of(Mlkd(), student, teacher)
    parts = [
        terms_of(Mlkd(temperatures=(t,)), student, teacher) for t in (2, 3, 4, 5, 6)
    ]
    for name, term in found.items():
        np.testing.assert_allclose(term, sum(part[name] for part in parts), rtol=1e-5)


def test_one_device_and_four_agree():
    assert_four_devices_are_one(Mlkd())


@pytest.mark.parametrize("scale", [0.0, 1e3, 1e30])
def test_values_and_gradients_are_finite_at_any_scale(scale):
    student, teacher = (jnp.asarray(scale * x, jnp.float32) for x in public_logits())
    found, gradient = jax.value_and_grad(lambda x: value(Mlkd(), x, teacher))(student)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_losses_are_float32_whatever_the_logits(dtype):
    assert_float32_whatever(Mlkd(), dtype)


def test_equal_logits_have_no_loss():
    student, _ = public_logits()
    assert value(Mlkd(), student, student) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperatures": ()}, r"methods\.mlkd\.temperatures=\(\) needs one or more"),
        ({"temperatures": (4.0, 0.0)}, r"methods\.mlkd\.temperature=0\.0 is not above"),
        ({"scope": "host"}, r"methods\.mlkd\.scope='host' is none of"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Mlkd(**given)
