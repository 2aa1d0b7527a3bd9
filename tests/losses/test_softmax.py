import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from kdjax import losses
from kdjax.losses.softmax import kl_divergence, log_softmax
from tests.losses import batches


@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_matches_scipy(temperature):
    student, _ = batches.logits()
    with jax.enable_x64(True):
        found = log_softmax(jnp.asarray(student), temperature=temperature)
    expected = scipy.special.log_softmax(student / temperature, axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_divergence_by_hand():
    """KL((1/2, 1/2) || (1/4, 3/4)), and of a probability that underflows."""
    student = jnp.log(jnp.asarray([[0.25, 0.75]]))
    teacher = jnp.log(jnp.asarray([[0.5, 0.5]]))
    np.testing.assert_allclose(
        kl_divergence(student, teacher), [np.log(4 / 3) / 2], rtol=1e-6
    )
    student, teacher = jnp.asarray([[0.0, -1e4]]), jnp.asarray([[0.0, -2e4]])
    np.testing.assert_array_equal(kl_divergence(student, teacher), [0])


@pytest.mark.parametrize(
    "loss",
    [
        functools.partial(losses.kd, temperature=5.0),
        functools.partial(losses.dkd, label=np.arange(8), temperature=5.0),
        functools.partial(losses.dist, temperature=5.0),
        functools.partial(losses.mlkd, temperatures=(5.0,)),
    ],
    ids=["kd", "dkd", "dist", "mlkd"],
)
def test_huge_logits_at_temperature_5_are_finite_under_jit(loss):
    """XLA may fuse a division by 5 with the subtraction of the maximum."""
    student, teacher = (1e10 / 3 * x for x in batches.logits())
    batches.assert_finite(loss, [(student, np.roll(student, 1, 0)), (student, teacher)])


def test_a_temperature_can_be_learned():
    student, teacher = map(jnp.asarray, batches.logits())

    @jax.jit
    @jax.grad
    def gradient(temperature):
        return jnp.mean(losses.kd(student, teacher, temperature=temperature))

    assert np.isfinite(gradient(4.0))
    assert gradient(4.0) != 0


@pytest.mark.parametrize(
    ("loss", "given"),
    [
        (losses.kd, {"temperature": 0.0}),
        (losses.dkd, {"label": np.arange(8), "temperature": -1}),
        (losses.dist, {"temperature": float("nan")}),
        (losses.mlkd, {"temperatures": (4.0, 0.0)}),
    ],
)
def test_rejects_temperatures_that_are_not_positive(loss, given):
    with pytest.raises(ValueError, match=r"temperature=\S+ is not above 0"):
        loss(*batches.logits(), **given)
