import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.losses import numerics


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
def test_vectors_of_any_length_become_unit_vectors(scale):
    x = scale * jax.random.normal(jax.random.key(0), (3, 5, 2))
    for axis in (1, -1):
        unit = numerics.l2_normalize(x, axis)
        np.testing.assert_allclose(jnp.linalg.norm(unit, axis=axis), 1, rtol=1e-5)
        assert jnp.all(jnp.sign(unit) == jnp.sign(x))


def test_zero_vectors_stay_zero_with_a_gradient_of_zero():
    x = jnp.zeros((2, 3)).at[1].set(1.0)
    np.testing.assert_array_equal(numerics.l2_normalize(x)[0], np.zeros(3))
    gradient = jax.grad(lambda x: jnp.sum(numerics.l2_normalize(x)[:, 0]))(x)
    np.testing.assert_array_equal(gradient[0], np.zeros(3))
    assert np.all(gradient[1] != 0)


def test_promotes_to_float32_or_wider():
    for given, expected in (
        ((jnp.bfloat16, jnp.bfloat16), jnp.float32),
        ((jnp.bfloat16, jnp.float32), jnp.float32),
    ):
        found = numerics.promote(*(jnp.zeros(2, dtype) for dtype in given))
        assert [x.dtype for x in found] == [expected, expected]
    with jax.enable_x64(True):
        (x,) = numerics.promote(jnp.zeros(2, jnp.float64))
        assert x.dtype == jnp.float64
