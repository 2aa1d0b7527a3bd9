import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.losses import elementwise


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("l2", [14.0, 0.0]), ("mean_squared", [14 / 4, 0.0]), ("l1", [6 / 4, 0.0])],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_by_hand(loss, expected, dtype):
    teacher = jnp.asarray([[[1.0, -2.0], [0.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]], dtype)
    student = jnp.asarray([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]], dtype)
    found = getattr(elementwise, loss)(student, teacher)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=rf"{loss}: student \(2, 2, 2\) and teacher"):
        getattr(elementwise, loss)(student, teacher[:1])
