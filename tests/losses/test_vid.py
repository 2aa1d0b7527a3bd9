import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import feature_maps


def test_matches_repdistiller():
    """With a regressor that changes nothing, and variance 5."""
    raw = np.full(32, np.log(np.expm1(5 - 1e-5)))
    feature_maps.assert_matches_reference(
        lambda s, t: losses.vid(s, t, raw_variance=jnp.asarray(raw)),
        "VID/identity_regressor_var5",
        feature_maps.drawn(10)[1:2],
        feature_maps.drawn(20)[1:2],
    )


def test_gradient_of_the_variance_vanishes_where_it_is_the_mean_square():
    x = jax.random.normal(jax.random.key(0), (4, 5, 5, 3))
    square = jnp.mean(jnp.square(x), axis=(0, 1, 2))
    raw = jnp.log(jnp.expm1(square - 1e-5))
    gradient = jax.grad(
        lambda raw: jnp.mean(losses.vid(jnp.zeros_like(x), x, raw_variance=raw))
    )(raw)
    np.testing.assert_allclose(gradient, np.zeros(3), atol=1e-6)


def test_large_raw_variances_do_not_overflow():
    x = jnp.ones((2, 3, 3, 2))
    value = losses.vid(0 * x, x, raw_variance=jnp.full(2, 1e4))
    np.testing.assert_allclose(value, np.full(2, (1e-4 + np.log(1e4)) / 2), rtol=1e-5)


def test_rejects_different_shapes():
    maps = jnp.zeros((2, 3, 3, 2)), jnp.zeros((2, 4, 4, 2))
    with pytest.raises(ValueError, match=r"vid: student .* differ"):
        losses.vid(*maps, raw_variance=jnp.zeros(2))


def test_degenerate_inputs():
    feature_maps.assert_robust_to_degenerate_inputs(
        lambda s, t: losses.vid(s, t, raw_variance=jnp.zeros(32)),
        feature_maps.drawn(10)[1],
        feature_maps.drawn(20)[1],
    )
