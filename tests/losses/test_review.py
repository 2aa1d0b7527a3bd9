import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import feature_maps


def test_hierarchical_context_matches_the_authors():
    feature_maps.assert_matches_reference(
        losses.hierarchical_context,
        "ReviewKD/hcl",
        feature_maps.drawn(10),
        feature_maps.drawn(20),
    )


def test_levels_by_hand():
    """A 2x2 map is averaged down to one position, which counts half."""
    student = jnp.asarray([[[[1.0], [2.0]], [[3.0], [6.0]]]])
    expected = ((1 + 4 + 9 + 36) / 4 + 3.0**2 / 2) / 1.5
    found = losses.hierarchical_context(student, jnp.zeros_like(student))
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_rejects_different_shapes():
    with pytest.raises(ValueError, match=r"hierarchical_context: student .* differ"):
        losses.hierarchical_context(jnp.zeros((2, 4, 4, 3)), jnp.zeros((2, 2, 2, 3)))


def test_degenerate_inputs():
    feature_maps.assert_robust_to_degenerate_inputs(
        losses.hierarchical_context,
        feature_maps.drawn(10)[1],
        feature_maps.drawn(20)[1],
    )
