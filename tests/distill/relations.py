"""Methods that relate the images of a batch, on one device and on several."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import step as step_lib
from kdjax.distill.method import Inputs, Outputs
from kdjax.models import Features
from tests.losses.batches import drawn

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


def on_devices(method, devices, variables, precomputed, student, teacher):
    """Returns terms, gradients and statistics of a batch spread over devices."""
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
