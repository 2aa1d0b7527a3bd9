import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import objective
from kdjax.data.pipeline.batches import Batch
from kdjax.distill.jacobian import Jacobian
from kdjax.models import Features
from tests.distill import peers


class Smooth(nn.Module):
    """A small network that can be differentiated twice."""

    width: int

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Conv(self.width, (3, 3), param_dtype=image.dtype)(image)
        x = nn.softplus(x)
        pooled = x.mean((1, 2))
        logits = nn.Dense(5, param_dtype=image.dtype)(jnp.square(pooled))
        return logits, Features(x, (x,), (x,), pooled)


def test_gradient_of_the_parameters_goes_through_the_second_derivative():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        image = jnp.asarray(rng.normal(size=(3, 6, 6, 3)))
        batch = Batch(image, jnp.asarray([0, 3, 4]), jnp.ones(3), jnp.arange(3))
        student, teacher = Smooth(4), Smooth(7)
        params, fixed = (
            network.init(jax.random.key(seed), image, train=False)
            for seed, network in enumerate((student, teacher))
        )
        gradients = jax.jit(
            lambda params: objective.student_objective(
                student,
                teacher,
                {"jacobian": Jacobian(weight=2.0)},
                teacher_train=False,
                task_weight=0.0,
            )(
                {"student": params, "methods": {"jacobian": {}}},
                {"student": {}, "methods": {"jacobian": {}}},
                objective.Frozen(fixed, {"jacobian": {}}),
                batch,
                jax.random.key(0),
                jnp.zeros(()),
            )
        )
        params = params["params"]
        direction = jax.tree.map(
            lambda x: jnp.asarray(rng.normal(size=x.shape)), params
        )
        found = gradients(params)
        assert found.values["jacobian/jacobian"].shape == (3,)
        slope = sum(
            jnp.vdot(g, d)
            for g, d in zip(
                jax.tree.leaves(found.summed["student"]),
                jax.tree.leaves(direction),
                strict=True,
            )
        )
        step = 1e-5
        ahead, behind = (
            gradients(
                jax.tree.map(lambda x, d, s=sign: x + s * step * d, params, direction)
            )
            for sign in (1, -1)
        )
        difference = (ahead.loss - behind.loss) / (2 * step)
        assert abs(slope) > 1e-3
        np.testing.assert_allclose(slope, difference, rtol=1e-6)


def compared(student, teacher):
    sides = [
        peers.outputs_of([np.zeros((len(x), 2, 2, 1))])._replace(input_gradient=x)
        for x in map(jnp.asarray, (student, teacher))
    ]
    terms, stats = Jacobian().loss({}, {}, *sides, None)
    assert stats == {}
    return terms["jacobian"]


def test_invariant_to_scale():
    x, y = np.random.default_rng(0).normal(size=(2, 4, 3, 3, 3)).astype("float32")
    np.testing.assert_allclose(compared(3 * x, x), np.zeros(4), atol=1e-6)
    np.testing.assert_allclose(compared(-x, x), np.full(4, 4.0), rtol=1e-5)
    flat = [a.reshape(4, -1) for a in (x, y)]
    cosine = (flat[0] * flat[1]).sum(1)
    cosine /= np.linalg.norm(flat[0], axis=1) * np.linalg.norm(flat[1], axis=1)
    np.testing.assert_allclose(compared(x, y), 2 - 2 * cosine, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e30])
@pytest.mark.parametrize("target", [0.0, 1e-30, 1e30])
def test_degenerate_inputs(scale, target):
    x = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype("float32")
    x, y = scale * x, target * x[::-1]
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(compared(x, y)))(
        jnp.asarray(x, jnp.float32)
    )
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_losses_of_bfloat16_are_float32():
    x = jnp.ones((2, 3, 3, 3), jnp.bfloat16)
    assert compared(x, -x).dtype == jnp.float32
