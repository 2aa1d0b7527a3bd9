import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.pkt import divergence, neighbor_probabilities
from tests.losses import batches


def test_matches_repdistiller_but_for_its_epsilon():
    def original(student, teacher):
        student, teacher = (
            x / (jnp.linalg.norm(x, axis=1, keepdims=True) + 1e-7)
            for x in (student, teacher)
        )
        return divergence(
            neighbor_probabilities(student, student),
            neighbor_probabilities(teacher, teacher),
        )

    batches.assert_matches_reference(original, "PKT", *batches.pooled())
    batches.assert_matches_reference(losses.pkt, "PKT", *batches.pooled(), rtol=1e-7)


def test_by_hand():
    """Orthogonal students: (2/3, 1/3); opposite teachers: (1, 0)."""
    student, teacher = np.eye(2), np.array([[1.0], [-2.0]])
    np.testing.assert_allclose(
        losses.pkt(student, teacher), np.full(2, np.log(1.5) / 2), rtol=1e-5
    )


def test_invariant_to_scale_and_zero_for_equal_directions():
    student, _ = batches.pooled()
    with jax.enable_x64(True):
        found = losses.pkt(jnp.asarray(student), jnp.asarray(3 * student))
    np.testing.assert_allclose(found, 0, atol=1e-15)


def test_four_devices_match_one():
    batches.assert_devices_agree(losses.pkt, *batches.pooled())


def test_degenerate_inputs():
    batches.assert_finite_vectors(losses.pkt)
    batches.assert_computes_in_float32(losses.pkt, *batches.pooled())


@pytest.mark.parametrize("shape", [(7, 4), (8, 4, 2), (8,)])
def test_rejects_what_is_not_vectors_of_one_batch(shape):
    with pytest.raises(ValueError, match=r"pkt: student \(8, 3\) and teacher"):
        losses.pkt(np.zeros((8, 3)), np.zeros(shape))
