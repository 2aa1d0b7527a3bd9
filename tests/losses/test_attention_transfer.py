import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.attention_transfer import attention_map
from tests.losses import feature_maps


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("AT/same", (10, feature_maps.SAME)),
        # The larger map is averaged down before its attention map is taken.
        ("AT/student_half_res_other_width", (30, feature_maps.OTHER)),
    ],
)
def test_matches_repdistiller(name, student):
    feature_maps.assert_matches_reference(
        losses.attention_transfer,
        name,
        feature_maps.drawn(*student),
        feature_maps.drawn(20),
    )


def test_matches_kd_methods_with_tf_with_half_the_weight(golden):
    arrays = golden("baselines")
    values, gradients = feature_maps.values_and_gradients(
        losses.attention_transfer, *feature_maps.baseline(golden)
    )
    np.testing.assert_allclose(500 * sum(values), arrays["loss__at"], rtol=1e-9)
    for i, gradient in enumerate(gradients):
        np.testing.assert_allclose(
            500 * gradient, arrays[f"grad__at__{i}"], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e25])
def test_attention_maps_are_unit_vectors_with_finite_gradients(scale):
    x = scale * jax.random.normal(jax.random.key(0), (2, 3, 3, 4))
    # Squares overflow from 2e19 and vanish below 1e-23.
    x = x if scale < 1e19 else x / 1e7
    length = jnp.linalg.norm(attention_map(x), axis=1)
    np.testing.assert_allclose(length, float(scale in (1.0, 1e25)), atol=1e-5)
    gradient = jax.grad(lambda x: attention_map(x)[0, 0])(x)
    assert np.all(np.isfinite(gradient))


def test_degenerate_inputs():
    feature_maps.assert_robust_to_degenerate_inputs(
        losses.attention_transfer,
        feature_maps.drawn(10)[1],
        feature_maps.drawn(20)[1],
    )
