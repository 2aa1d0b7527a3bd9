"""What every method that relates the images of a batch must do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import step as step_lib
from kdjax.distill.method import Inputs, Outputs
from kdjax.models import Features

SIZE = 8


def outputs_of(pooled, last=None):
    """Makes outputs of pooled features [B, C], or of a last map, or of both."""
    if pooled is None:
        pooled = jnp.zeros((len(last), 2), last.dtype)
    pooled = jnp.asarray(pooled)
    last = pooled[:, None, None, :] if last is None else jnp.asarray(last)
    return Outputs(
        jnp.zeros((len(pooled), 3)), Features(last, (last,), (last,), pooled)
    )


def drawn(seed, *shape, dtype="float64"):
    return np.random.RandomState(seed).randn(*shape).astype(dtype)


def loss_and_gradient(method, student, teacher, variables=None):
    """Returns the mean of the terms' sum and its gradient by the pooled features."""

    def total(pooled):
        terms, _ = method.loss(
            variables or {}, {}, outputs_of(pooled), outputs_of(teacher), None
        )
        assert all(term.shape == (len(pooled),) for term in terms.values())
        return sum(map(jnp.mean, terms.values()))

    return jax.jit(jax.value_and_grad(total))(jnp.asarray(student))


def assert_robust_to_degenerate_inputs(method, *, learns=False):
    """Zeros, twins, huge and tiny features: finite; bfloat16: a loss in float32."""
    ours, theirs = (drawn(seed, SIZE, 5, dtype="float32") for seed in (0, 1))
    variables = {}
    if learns:
        variables = method.init(jax.random.key(0), outputs_of(ours), outputs_of(theirs))
    twins = ours.copy()
    twins[1:3] = twins[0]
    zeros, same = np.zeros_like(ours), np.ones_like(ours)

    @jax.jit
    def run(student, teacher):
        return loss_and_gradient(method, student, teacher, variables)

    for student, teacher in (
        (zeros, theirs),
        (twins, theirs),
        (same, theirs),
        (ours, twins),
        (ours, zeros),
        (zeros, zeros),
        (ours, ours),
        (1e12 * ours, theirs),
        (1e-25 * ours, theirs),
    ):
        loss, gradient = run(student, teacher)
        assert np.isfinite(loss)
        assert np.all(np.isfinite(gradient))
        # Peers' gradients reach 3e11 at twins.
        usual = 1e-3 < np.max(np.abs(student)) < 1e3
        assert not usual or np.max(np.abs(gradient)) < 1e3
    half, _ = run(*(jnp.asarray(x, jnp.bfloat16) for x in (ours, theirs)))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, run(ours, theirs)[0], rtol=0.05)


def on_devices(method, devices, variables, precomputed, student, teacher):
    """Returns terms, gradients and statistics of a batch that devices share."""
    method = dataclasses.replace(method, data_axis=step_lib.DEVICES)
    index = np.arange(SIZE, dtype=np.int32)[::-1].copy()
    label = index % 3
    key = jax.random.key(3)

    def share(student, teacher, index, label):
        def total(student, params):
            inputs = Inputs(None, label, index, key)
            terms, stats = method.loss(
                variables | {"params": params}, precomputed, student, teacher, inputs
            )
            return sum(map(jnp.mean, terms.values())), (terms, stats)

        (own, learned), (terms, stats) = jax.grad(total, argnums=(0, 1), has_aux=True)(
            student, variables.get("params", {})
        )
        learned, averaged = jax.lax.pmean((learned, stats), step_lib.DEVICES)
        return own, terms, learned, averaged, stats

    shares = jax.tree.map(
        lambda x: x.reshape(devices, -1, *x.shape[1:]), (student, teacher, index, label)
    )
    own, terms, learned, averaged, stats = jax.device_get(
        step_lib.data_parallel(
            share, jax.devices()[:devices], in_axes=(0,) * 4, out_axes=0
        )(*shares)
    )
    # Devices hold the same statistics, and averages of them are no others.
    for leaf, mean in zip(*map(jax.tree.leaves, (stats, averaged)), strict=True):
        np.testing.assert_array_equal(leaf, np.broadcast_to(mean[:1], mean.shape))

    def flat(tree):
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)

    # A device's gradient by its own features is of the sum of all devices' means.
    own = jax.tree.map(lambda x: x / devices, flat(own))
    first = jax.tree.map(lambda x: x[0], (learned, stats))
    return own, flat(terms), first


def assert_four_devices_match_one(method, precomputed=None):
    """Compares terms, gradients and statistics on one device and on four."""
    with jax.enable_x64(True):
        student, teacher = (
            outputs_of(drawn(seed, SIZE, width), drawn(seed + 9, SIZE, 2, 2, width))
            for seed, width in ((1, 5), (2, 7))
        )
        variables = jax.tree.map(
            lambda x: x.astype(jnp.float64),
            method.init(jax.random.key(0), student, teacher),
        )
        one, four = (
            on_devices(method, n, variables, precomputed or {}, student, teacher)
            for n in (1, 4)
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12), four, one
    )
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(one[0]))
    return one
