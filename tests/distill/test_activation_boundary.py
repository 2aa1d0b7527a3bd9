import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import distances
from kdjax.distill.activation_boundary import ActivationBoundary
from tests.distill import peers


def test_matches_repdistiller():
    expected = peers.reference("AB/margin1_3stages")
    method = ActivationBoundary()
    with jax.enable_x64(True):
        means, gradients = peers.terms_and_gradients(
            method, peers.maps_of(10), peers.maps_of(20)
        )
        # Its terms bear the weight.
        means = [method.weight * mean for mean in means]
        norms = [method.weight * float(jnp.linalg.norm(g)) for g in gradients]
    np.testing.assert_allclose(means, expected["per_stage"], rtol=1e-6)
    np.testing.assert_allclose(norms, expected["grad_norm"], rtol=1e-6)


def test_distance_by_hand():
    student = jnp.asarray([[-2.0, 0.5, 1.0, 3.0, -1.0, -0.5, 0.0, 2.0]])
    teacher = jnp.asarray([[1.0, 1.0, 9.0, 0.1, 0.0, -1.0, -9.0, 0.0]])
    expected = 9 + 0.25 + 0 + 0 + 0 + 0.25 + 1 + 9
    found = distances.activation_boundary(student, teacher)
    np.testing.assert_allclose(found, [expected], rtol=1e-6)
    half = distances.activation_boundary(student, teacher, margin=0.5)
    np.testing.assert_allclose(half, [6.25 + 0 + 0.25 + 6.25], rtol=1e-6)


def test_connectors_are_where_the_widths_differ():
    student = [np.zeros((2, 8, 8, 3)), np.zeros((2, 4, 4, 5))]
    teacher = [np.zeros((2, 8, 8, 4)), np.zeros((2, 4, 4, 5))]
    method = ActivationBoundary()
    variables = method.init(
        jax.random.key(0), peers.outputs_of(student), peers.outputs_of(teacher)
    )
    assert variables["params"].keys() == {"stage1_conv", "stage1_bn"}


def test_rejects_other_shapes():
    with pytest.raises(ValueError, match=r"activation_boundary: student .* differ"):
        distances.activation_boundary(jnp.zeros((2, 3)), jnp.zeros((2, 4)))


def test_degenerate_inputs():
    peers.assert_robust_to_degenerate_inputs(ActivationBoundary())
    peers.assert_robust_to_degenerate_inputs(ActivationBoundary(connect="always"))
