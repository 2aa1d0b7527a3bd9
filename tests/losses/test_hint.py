import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import feature_maps


def test_matches_repdistiller():
    feature_maps.assert_matches_reference(
        losses.hint,
        "FitNet/mse",
        feature_maps.drawn(10)[1:2],
        feature_maps.drawn(20)[1:2],
    )


def test_matches_kd_methods_with_tf(golden):
    arrays = golden("baselines")
    values, gradients = feature_maps.values_and_gradients(
        losses.hint, *feature_maps.baseline(golden)
    )
    np.testing.assert_allclose(sum(values), arrays["loss__fitnet"], rtol=1e-9)
    for i, gradient in enumerate(gradients):
        np.testing.assert_allclose(
            gradient, arrays[f"grad__fitnet__{i}"], rtol=1e-9, atol=1e-12
        )


def test_rejects_different_shapes():
    with pytest.raises(ValueError, match=r"hint: student .* differ"):
        losses.hint(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
