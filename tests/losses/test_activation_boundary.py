import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import feature_maps


def test_matches_repdistiller():
    feature_maps.assert_matches_reference(
        losses.activation_boundary,
        "AB/margin1_3stages",
        feature_maps.drawn(10),
        feature_maps.drawn(20),
        weights=np.asarray([0.25, 0.5, 1.0]) * 3e-3,
    )


def test_by_hand():
    student = jnp.asarray([[-2.0, 0.5, 1.0, 3.0, -1.0, -0.5, 0.0, 2.0]])
    teacher = jnp.asarray([[1.0, 1.0, 9.0, 0.1, 0.0, -1.0, -9.0, 0.0]])
    expected = 9 + 0.25 + 0 + 0 + 0 + 0.25 + 1 + 9
    found = losses.activation_boundary(student, teacher)
    np.testing.assert_allclose(found, [expected], rtol=1e-6)
    half = losses.activation_boundary(student, teacher, margin=0.5)
    np.testing.assert_allclose(half, [6.25 + 0 + 0.25 + 6.25], rtol=1e-6)


def test_rejects_different_shapes():
    with pytest.raises(ValueError, match=r"activation_boundary: student .* differ"):
        losses.activation_boundary(jnp.zeros((2, 3)), jnp.zeros((2, 4)))


def test_degenerate_inputs():
    feature_maps.assert_robust_to_degenerate_inputs(
        losses.activation_boundary,
        feature_maps.drawn(10)[1],
        feature_maps.drawn(20)[1],
    )
