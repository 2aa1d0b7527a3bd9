import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill.mlkd import Mlkd
from tests.distill.logits import (
    assert_four_devices_match_one,
    assert_matches_reference,
    assert_terms_are_float32,
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
def test_value_and_gradient_of_each_level_match_reference(name, term):
    """Without the masks: of the public code's functions, not of what it makes of them.

    It multiplies sums by masks and takes the mean, which chooses nothing.
    """
    method = Mlkd(temperatures=(4.0,))
    assert_matches_reference(lambda *x: jnp.mean(terms_of(method, *x)[term]), name)


def test_sums_over_temperatures():
    student, teacher = public_logits()
    found = terms_of(Mlkd(), student, teacher)
    parts = [
        terms_of(Mlkd(temperatures=(t,)), student, teacher) for t in (2, 3, 4, 5, 6)
    ]
    for name, term in found.items():
        np.testing.assert_allclose(term, sum(part[name] for part in parts), rtol=1e-5)


def test_four_devices_match_one():
    assert_four_devices_match_one(Mlkd())


@pytest.mark.parametrize("scale", [0.0, 1e3, 1e30])
def test_finite_at_any_scale(scale):
    student, teacher = (jnp.asarray(scale * x, jnp.float32) for x in public_logits())
    found, gradient = jax.value_and_grad(lambda x: value(Mlkd(), x, teacher))(student)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_terms_are_float32_for_any_logit_dtype(dtype):
    assert_terms_are_float32(Mlkd(), dtype)


def test_zero_for_equal_logits():
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
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        Mlkd(**given)
