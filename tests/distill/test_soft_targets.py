import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill.soft_targets import SoftTargets, standardized
from tests.distill.logits import assert_matches_reference, public_logits, value


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("KD/T1", {"temperature": 1.0}),
        ("KD/T2", {"temperature": 2.0}),
        ("KD/T4", {}),
        # Without the weight of 9 that its code multiplies by.
        ("LSKD/T2", {"temperature": 2.0, "standardize": True}),
    ],
)
def test_value_and_gradient_match_reference(name, settings):
    # The original adds 1e-7 to the standard deviation.
    rtol = 1e-6 if settings.get("standardize") else 1e-9
    loss = functools.partial(value, SoftTargets(**settings))
    assert_matches_reference(loss, name, rtol=rtol)


def test_unscaled_form_matches_mhgd_code(golden):
    arrays = golden("baselines")
    method = SoftTargets(scale="none")
    with jax.enable_x64(True):
        found, gradient = jax.value_and_grad(lambda *x: value(method, *x))(
            *(jnp.asarray(arrays[f"logits_{side}"]) for side in "st")
        )
        np.testing.assert_allclose(found, arrays["loss__soft_logits_T4"], rtol=1e-9)
        np.testing.assert_allclose(
            gradient, arrays["grad__soft_logits_T4__0"], rtol=1e-7, atol=1e-12
        )


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_terms_are_float32_for_any_logit_dtype(dtype, standardize):
    student, teacher = (jnp.asarray(x, dtype) for x in public_logits())
    method = SoftTargets(standardize=standardize)
    found = value(method, student, teacher)
    assert found.dtype == jnp.float32
    wide = [x.astype(jnp.float32) for x in (student, teacher)]
    np.testing.assert_array_equal(found, value(method, *wide))


@pytest.mark.parametrize("standardize", [False, True])
def test_zero_for_equal_logits(standardize):
    student, _ = public_logits()
    method = SoftTargets(standardize=standardize)
    found, gradient = jax.value_and_grad(lambda x: value(method, x, student))(student)
    assert found == 0
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1e3, 1e30])
def test_finite_at_any_scale(scale, standardize):
    student, teacher = (jnp.asarray(scale * x, jnp.float32) for x in public_logits())
    method = SoftTargets(standardize=standardize)
    found = jax.value_and_grad(lambda x: value(method, x, teacher))(student)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


def test_standardization_is_invariant_to_scale_and_shift():
    student, teacher = public_logits()
    method = SoftTargets(standardize=True)
    np.testing.assert_allclose(
        value(method, student, 7 * teacher - 30),
        value(method, student, teacher),
        rtol=1e-5,
    )
    logits = standardized(jnp.asarray(teacher))
    np.testing.assert_allclose(np.std(logits, axis=1, ddof=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0}, r"methods\.kd\.temperature=0\.0 is not above"),
        ({"scale": "cubed"}, r"methods\.kd\.scale='cubed' is none of"),
    ],
)
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        SoftTargets(**given)
