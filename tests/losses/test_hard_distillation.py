import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches


def test_by_hand():
    """The teacher decides for the second class, then for the first."""
    student = jnp.log(jnp.asarray([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]))
    teacher = jnp.asarray([[0.0, 1.0, -1.0], [9.0, 8.0, 7.0]])
    found = losses.hard_distillation(student, teacher)
    np.testing.assert_allclose(found, np.log([4, 2]), rtol=1e-6)


def test_degenerate_inputs():
    batches.assert_finite_logits(losses.hard_distillation)
    batches.assert_computes_in_float32(losses.hard_distillation, *batches.logits())


def test_rejects_unequal_shapes():
    with pytest.raises(ValueError, match=r"hard_distillation: student .* differ"):
        losses.hard_distillation(np.zeros((2, 3)), np.zeros((2, 4)))
