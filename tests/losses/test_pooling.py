import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.losses.pooling import pool_larger, pool_to


@pytest.mark.parametrize(("before", "after"), [(8, 4), (8, 1), (5, 3), (7, 4), (3, 3)])
def test_windows_are_those_of_pytorch(before, after):
    """Window i of n covers floor(i H / n) to ceil((i + 1) H / n)."""
    x = np.random.default_rng(0).normal(size=(2, before, 6, 3)).astype("float32")
    rows = [
        slice(i * before // after, int(np.ceil((i + 1) * before / after)))
        for i in range(after)
    ]
    expected = np.stack([x[:, row].mean(1) for row in rows], axis=1)
    found = pool_to(jnp.asarray(x), (after, 6))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_each_axis_of_the_larger_map_is_averaged_down():
    student, teacher = pool_larger(jnp.ones((2, 4, 2, 3)), jnp.ones((2, 2, 8, 5)))
    assert student.shape == (2, 2, 2, 3)
    assert teacher.shape == (2, 2, 2, 5)


def test_rejects_sizes_above_the_maps():
    with pytest.raises(ValueError, match="cannot be averaged down"):
        pool_to(jnp.zeros((1, 2, 2, 1)), (4, 2))
