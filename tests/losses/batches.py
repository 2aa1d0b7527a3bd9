"""Inputs of the reference values, and checks for losses on logits and vectors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from tests.losses.feature_maps import reference


def logits():
    """Returns the logits of the references, [8, 100]: the student's, the teacher's."""
    return [3 * np.random.RandomState(seed).randn(8, 100) for seed in (1, 2)]


def drawn(seed, *shape, dtype="float64"):
    return np.random.RandomState(seed).randn(*shape).astype(dtype)


def pooled():
    """Returns the pooled features of the references, [8, 64] and [8, 128]."""
    return [drawn(40, 8, 64), drawn(41, 8, 128)]


def value_and_gradient(loss, student, teacher):
    """Returns the mean of a loss and its gradient, in float64."""

    @jax.jit
    @jax.value_and_grad
    def run(student, teacher):
        value = loss(student, teacher)
        assert value.shape == student.shape[:1]
        assert value.dtype == jnp.float64
        return jnp.mean(value)

    with jax.enable_x64(True):
        return jax.device_get(run(*map(jnp.asarray, (student, teacher))))


def assert_matches_reference(loss, name, student, teacher, *, rtol=1e-9):
    """Compares a loss, and its gradient's norm, with a public implementation."""
    expected = reference(name)
    value, gradient = value_and_gradient(loss, student, teacher)
    np.testing.assert_allclose(value, expected["loss"], rtol=rtol)
    np.testing.assert_allclose(
        [np.linalg.norm(gradient)], expected["grad_norm"], rtol=rtol
    )


def assert_matches_baseline(loss, golden, name, inputs):
    """Compares a loss and its gradient with the code of MHGD (baselines.npz)."""
    arrays = golden("baselines")
    student, teacher = (arrays[f"{inputs}_{side}"] for side in "st")
    value, gradient = value_and_gradient(loss, student, teacher)
    np.testing.assert_allclose(value, arrays[f"loss__{name}"], rtol=1e-9)
    np.testing.assert_allclose(
        gradient, arrays[f"grad__{name}__0"], rtol=1e-9, atol=1e-14
    )


def assert_finite(loss, pairs, *, largest_gradient=np.inf):
    """Values and gradients of pairs of one shape are finite in float32."""

    @jax.jit
    def run(student, teacher):
        def total(student):
            value = loss(student, teacher)
            return jnp.sum(value), value

        return jax.grad(total, has_aux=True)(student)

    for student, teacher in pairs:
        gradient, value = run(
            *(jnp.asarray(x, jnp.float32) for x in (student, teacher))
        )
        assert np.all(np.isfinite(value))
        assert np.all(np.isfinite(gradient))
        # A gradient by tiny inputs is huge where the loss is invariant to their scale.
        if 1e-3 < np.max(np.abs(student)) < 1e3:
            assert np.max(np.abs(gradient)) <= largest_gradient


def assert_finite_logits(loss):
    """Logits at any scale, equal ones, and those of one dominant class."""
    student, teacher = logits()
    scales = (0.0, 1e-30, 1e-3, 1e3, 1e6, 1e10, 1e30)
    assert_finite(
        loss,
        [
            *((scale * student, scale * teacher) for scale in scales),
            *((scale * student, teacher) for scale in scales),
            (student, student),
            (1e30 * student, -1e30 * student),
        ],
    )


def assert_finite_vectors(loss):
    """Zeros, twins, equal vectors, huge and tiny ones, and a batch of one."""
    student, teacher = (drawn(seed, 8, 5, dtype="float32") for seed in (0, 1))
    twins, zeros, same = student.copy(), np.zeros_like(student), np.ones_like(student)
    twins[1:3] = twins[0]
    pairs = [
        (zeros, teacher),
        (twins, teacher),
        (same, teacher),
        (student, twins),
        (student, zeros),
        (zeros, zeros),
        (student, student),
        (1e12 * student, teacher),
        (1e-25 * student, teacher),
    ]
    # Public implementations' gradients reach 3e11 at twins.
    assert_finite(loss, pairs, largest_gradient=1e4)
    assert_finite(loss, [(student[:1], teacher[:1])])


def assert_computes_in_float32(loss, student, teacher):
    """Inputs in bfloat16 have the values of the same numbers in float32."""
    half = [jnp.asarray(x, jnp.bfloat16) for x in (student, teacher)]
    value = loss(*half)
    assert (value.shape, value.dtype) == ((len(student),), jnp.float32)
    expected = loss(*(x.astype(jnp.float32) for x in half))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def assert_devices_agree(loss, student, teacher):
    """One device and four, under jit, shard_map and pmap, have equal values.

    Gradients too: that of the mean over the batch.
    """
    axis = "batch"
    sharded = PartitionSpec(axis)
    mapped = functools.partial(loss, axis_name=axis)

    def on_mesh(devices):
        return jax.shard_map(
            mapped,
            mesh=Mesh(np.array(jax.devices()[:devices]), (axis,)),
            in_specs=(sharded, sharded),
            out_specs=sharded,
        )

    def mean_of(function):
        def mean(student, teacher):
            value = function(student, teacher)
            return jnp.mean(value), value

        return jax.grad(mean, has_aux=True)

    def on_replicas(student, teacher):
        shares = (x.reshape(4, -1, *x.shape[1:]) for x in (student, teacher))
        gradient, value = jax.pmap(
            mean_of(mapped), axis_name=axis, devices=jax.devices()[:4]
        )(*shares)
        # A device's gradient is that of the sum of all devices' means.
        return gradient.reshape(student.shape) / 4, value.reshape(-1)

    with jax.enable_x64(True):
        arrays = [jnp.asarray(x, jnp.float64) for x in (student, teacher)]
        expected = jax.jit(mean_of(loss))(*arrays)
        assert np.any(expected[0] != 0)
        for run in (*(jax.jit(mean_of(on_mesh(n))) for n in (1, 4)), on_replicas):
            for found, value in zip(run(*arrays), expected, strict=True):
                np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-12)
