"""Logits of the references, and what any comparison of logits alone must do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import step as step_lib
from kdjax.distill.method import Inputs, Outputs
from tests.distill import peers


def public_logits():
    """Returns the logits of the references: the student's and the teacher's."""
    return [3 * np.random.RandomState(seed).randn(8, 100) for seed in (1, 2)]


def terms_of(method, student, teacher, label=None):
    outputs = [Outputs(jnp.asarray(x), None) for x in (student, teacher)]
    terms, stats = method.loss({}, {}, *outputs, Inputs(None, label, None, None))
    assert stats == {}
    assert all(term.shape == (len(student),) for term in terms.values())
    return terms


def value(method, student, teacher, label=None):
    return sum(jnp.mean(x) for x in terms_of(method, student, teacher, label).values())


def assert_matches_reference(loss, name, *, rtol=1e-9):
    """Compares a function of both logits, and its gradient's norm, with a reference."""
    expected = peers.reference(name)
    with jax.enable_x64(True):
        found, gradient = jax.value_and_grad(loss)(*map(jnp.asarray, public_logits()))
        np.testing.assert_allclose(found, expected["loss"], rtol=rtol)
        np.testing.assert_allclose(
            [np.linalg.norm(gradient)], expected["grad_norm"], rtol=rtol
        )


def assert_terms_are_float32(method, dtype, label=None):
    """Compares terms of logits of a type with those of the same in float32."""
    student, teacher = (jnp.asarray(x, dtype) for x in public_logits())
    found = terms_of(method, student, teacher, label)
    wide = [x.astype(jnp.float32) for x in (student, teacher)]
    expected = terms_of(method, *wide, label)
    for name, term in found.items():
        assert (term.shape, term.dtype) == ((8,), jnp.float32)
        np.testing.assert_array_equal(term, expected[name])


def on_devices(method, number):
    """Returns the loss and its gradient in the student's logits of all devices."""
    method = dataclasses.replace(method, data_axis=step_lib.DEVICES)

    def share(student, teacher):
        # The transpose of the gather adds up the losses of all devices, so that the
        # mean over devices of parameters' gradients is that of the mean loss.
        loss, gradient = jax.value_and_grad(lambda x: value(method, x, teacher))(
            student
        )
        return jax.lax.pmean(loss, step_lib.DEVICES), gradient / number

    spread = step_lib.data_parallel(
        share, jax.devices()[:number], in_axes=(0, 0), out_axes=0
    )
    loss, gradient = spread(*(x.reshape(number, -1, 100) for x in public_logits()))
    return np.asarray(loss)[0], np.asarray(gradient).reshape(8, 100)


def assert_four_devices_match_one(method):
    """Compares loss and gradient on four devices, on one and without, and by scope."""
    apart = dataclasses.replace(method, scope="per_device")
    with jax.enable_x64(True):
        one, four = (on_devices(method, number) for number in (1, 4))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13),
            four,
            one,
        )
        np.testing.assert_allclose(one[0], value(method, *public_logits()), rtol=1e-12)
        loss, _ = on_devices(apart, 4)
        assert abs(loss - one[0]) > 1e-6
