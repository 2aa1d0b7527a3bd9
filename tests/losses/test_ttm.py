import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches, released


@pytest.mark.parametrize("name", ["ttm", "wttm"])
def test_matches_the_authors(name):
    released.assert_matches(name, getattr(losses, name), released.logits())


def test_the_power_is_a_temperature_of_the_teacher_alone():
    """With equal temperatures of both networks TTM would be KD."""
    student, teacher = (3 * released.drawn(x, 5, 6) for x in ("student", "teacher"))
    np.testing.assert_allclose(
        losses.ttm(student / 4, teacher, exponent=0.25),
        losses.kd(student, teacher, temperature=4.0) / 16,
        rtol=1e-5,
    )


def test_weights_by_hand():
    """Teachers of 1/2, 1/2 and of 1/5, 4/5: sums of square roots."""
    teacher = jnp.log(jnp.asarray([[0.5, 0.5], [0.2, 0.8]]))
    student = jnp.zeros((2, 2))
    weights = losses.wttm(student, teacher, exponent=0.5)[1] / losses.ttm(
        student, teacher, exponent=0.5
    )
    np.testing.assert_allclose(weights[1], (0.2**0.5 + 0.8**0.5), rtol=1e-5)
    np.testing.assert_array_equal(losses.wttm(student, teacher)[0], 0)


@pytest.mark.parametrize("loss", [losses.ttm, losses.wttm])
def test_degenerate_inputs(loss):
    batches.assert_finite_logits(loss)
    batches.assert_computes_in_float32(loss, *batches.logits())


@pytest.mark.parametrize("name", ["ttm", "wttm"])
def test_rejects_invalid_inputs(name):
    loss = getattr(losses, name)
    with pytest.raises(ValueError, match=rf"{name}: student .* differ"):
        loss(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match=rf"{name}: exponent=0\.0 is not above 0"):
        loss(np.zeros((2, 3)), np.zeros((2, 3)), exponent=0.0)
