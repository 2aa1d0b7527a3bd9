import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.correlation_congruence import gaussian_kernel
from tests.losses import batches

FORMS = (losses.correlation_congruence, losses.correlation_congruence_kernel)


def test_matches_repdistiller():
    batches.assert_matches_reference(
        losses.correlation_congruence,
        "CC/embed128",
        batches.drawn(42, 8, 128),
        batches.drawn(41, 8, 128),
    )


def test_by_hand():
    student = np.array([[1.0, -2.0], [0.0, 1.0], [3.0, 0.0]])
    # |d|: (1, 2), (0, 1), (3, 0); B / (B - 1) = 3 / 2.
    found = losses.correlation_congruence(student, np.zeros((3, 2)))
    np.testing.assert_allclose(found, [3, 0, 0])


def test_kernel_by_hand():
    """Cosines 0 and 1 of two examples against 1 of equal ones, to the first order."""
    found = losses.correlation_congruence_kernel(
        np.eye(2), np.ones((2, 3)), gamma=0.5, order=1
    )
    expected = (np.exp(-1) * 1) ** 2 / 2
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-5)


def test_series_approximates_the_kernel():
    x, y = (batches.drawn(seed, 4, 3) for seed in (0, 1))
    with jax.enable_x64(True):
        found = [
            gaussian_kernel(jnp.asarray(x), jnp.asarray(y), gamma=0.4, order=order)
            for order in (2, 16)
        ]
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    square = np.square(x[:, None] - y[None]).sum(-1)
    second = np.exp(-0.8) * (1 + 0.8 * x @ y.T + 0.32 * (x @ y.T) ** 2)
    np.testing.assert_allclose(found[0], second, rtol=1e-12)
    np.testing.assert_allclose(found[1], np.exp(-0.4 * square), rtol=1e-12)


@pytest.mark.parametrize("loss", FORMS)
def test_four_devices_match_one(loss):
    """Pairs across the borders of devices are included."""
    batches.assert_devices_agree(loss, batches.drawn(0, 8, 5), batches.drawn(1, 8, 5))


@pytest.mark.parametrize("loss", FORMS)
def test_degenerate_inputs(loss):
    batches.assert_finite_vectors(loss)
    student, teacher = (batches.drawn(seed, 6, 5) for seed in (0, 1))
    batches.assert_computes_in_float32(loss, student, teacher)


def test_a_batch_of_one_has_no_successor():
    found = losses.correlation_congruence(np.ones((1, 3)), np.zeros((1, 3)))
    np.testing.assert_array_equal(found, [0])


def test_rejects_invalid_inputs():
    with pytest.raises(ValueError, match=r"correlation_congruence: .* differ"):
        losses.correlation_congruence(np.zeros((4, 3)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"congruence_kernel: .* one batch"):
        losses.correlation_congruence_kernel(np.zeros((4, 3)), np.zeros((3, 3)))
