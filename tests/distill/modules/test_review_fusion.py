import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill.modules import review_fusion


@pytest.mark.parametrize(("before", "after"), [(2, 4), (3, 4), (4, 2), (4, 3), (1, 3)])
def test_nearest_takes_the_floor(before, after):
    x = jnp.arange(before**2, dtype=jnp.float32).reshape(1, before, before, 1)
    found = review_fusion.nearest(x, (after, after))
    index = [int(np.floor(i * before / after)) for i in range(after)]
    np.testing.assert_array_equal(found[0, ..., 0], x[0, ..., 0][np.ix_(index, index)])
