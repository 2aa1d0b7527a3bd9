import jax.numpy as jnp
import numpy as np

from kdjax.distill import transforms


def test_margin_relu_clips_every_channel_at_its_own_margin():
    x = jnp.asarray([[-2.0, -2.0], [-0.1, -0.1], [3.0, 3.0]]).reshape(1, 3, 1, 2)
    clipped = transforms.margin_relu(x, jnp.asarray([-1.0, -0.05]))
    expected = [[-1.0, -0.05], [-0.1, -0.05], [3.0, 3.0]]
    np.testing.assert_allclose(clipped.reshape(3, 2), expected, rtol=1e-6)


def test_margin_relu_keeps_the_type_of_the_feature():
    x = jnp.zeros((1, 1, 1, 2), jnp.bfloat16)
    assert transforms.margin_relu(x, jnp.zeros(2, jnp.float32)).dtype == jnp.bfloat16
