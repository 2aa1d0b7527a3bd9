import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.fsp import fsp_matrix
from tests.losses import feature_maps


def loss_and_gradients(student, teacher, **settings):
    """Returns the means of all pairs and the gradient of their sum by each map."""

    def total(student):
        pairs = zip(
            itertools.pairwise(student), itertools.pairwise(teacher), strict=True
        )
        means = [jnp.mean(losses.fsp(*both, **settings)) for both in pairs]
        return sum(means), means

    with jax.enable_x64(True):
        student, teacher = jax.tree.map(jnp.asarray, (student, teacher))
        (_, means), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(
            student
        )
        return jax.device_get((means, gradients))


def test_matches_repdistiller():
    expected = feature_maps.reference("FSP")
    means, gradients = loss_and_gradients(
        feature_maps.drawn(10), feature_maps.drawn(20)
    )
    np.testing.assert_allclose(means, expected["per_stage"], rtol=1e-9)
    norms = list(map(np.linalg.norm, gradients))
    np.testing.assert_allclose(norms, expected["grad_norm"], rtol=1e-9)


def test_matches_kd_methods_with_tf(golden):
    arrays = golden("baselines")
    means, gradients = loss_and_gradients(
        *feature_maps.baseline(golden), pool="max", distance="l2"
    )
    np.testing.assert_allclose(5e-4 * sum(means), arrays["loss__fsp"], rtol=1e-9)
    for i, gradient in enumerate(gradients):
        np.testing.assert_allclose(
            5e-4 * gradient, arrays[f"grad__fsp__{i}"], rtol=1e-9, atol=1e-12
        )


def test_matrix_by_hand():
    lower = jnp.asarray([[[[1.0], [3.0]], [[5.0], [7.0]]]])
    upper = jnp.asarray([[[[2.0, -1.0]]]])
    np.testing.assert_allclose(fsp_matrix(lower, upper), [[[8.0, -4.0]]])
    highest = fsp_matrix(lower, upper, pool="max")
    np.testing.assert_allclose(highest, [[[14.0, -7.0]]])


def test_rejects_sizes_and_widths_that_do_not_match():
    maps = [jnp.zeros((2, size, size, 3)) for size in (5, 3)]
    with pytest.raises(ValueError, match=r"pool='max' .* not \(5, 5\) and \(3, 3\)"):
        losses.fsp(maps, maps, pool="max")
    wider = [maps[0], jnp.zeros((2, 3, 3, 4))]
    with pytest.raises(ValueError, match=r"student \(2, 3, 3\) and teacher \(2, 3, 4"):
        losses.fsp(maps, wider)


@pytest.mark.parametrize("settings", [{}, {"pool": "max", "distance": "l2"}])
def test_degenerate_inputs(settings):
    upper = feature_maps.drawn(20)[2].astype("float32")

    def loss(student, teacher):
        student, teacher = ((x, upper.astype(x.dtype)) for x in (student, teacher))
        return losses.fsp(student, teacher, **settings)

    # Products of two maps are squared.
    feature_maps.assert_robust_to_degenerate_inputs(
        loss, feature_maps.drawn(10)[1], feature_maps.drawn(20)[1], huge=1e7
    )
