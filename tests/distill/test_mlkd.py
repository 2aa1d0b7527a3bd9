import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import step as step_lib
from kdjax.distill.method import Outputs
from kdjax.distill.mlkd import Mlkd

PUBLIC = pathlib.Path(__file__).parents[1] / "golden" / "reference_losses.json"


def public_logits():
    return [3 * np.random.RandomState(seed).randn(8, 100) for seed in (1, 2)]


def terms_of(method, student, teacher):
    outputs = [Outputs(jnp.asarray(x), None) for x in (student, teacher)]
    terms, stats = method.loss({}, {}, *outputs, None)
    assert stats == {}
    return terms


def value(method, student, teacher):
    return sum(jnp.mean(x) for x in terms_of(method, student, teacher).values())


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("KD/T4", "divergence"),
        ("MLKD/bc_T4", "batch_correlation"),
        ("MLKD/cc_T4", "class_correlation"),
    ],
)
def test_value_and_gradient_of_each_level_are_the_public_ones(name, term):
    """Without the masks: of the public code's functions, not of what it makes of them.

    It multiplies sums by masks and takes the mean, which chooses nothing.
    """
    expected = json.loads(PUBLIC.read_text())["values"][name]
    method = Mlkd(temperatures=(4.0,))
    with jax.enable_x64(True):
        found, gradient = jax.value_and_grad(
            lambda *x: jnp.mean(terms_of(method, *x)[term])
        )(*map(jnp.asarray, public_logits()))
        np.testing.assert_allclose(found, expected["loss"], rtol=1e-6)
        np.testing.assert_allclose(
            [np.linalg.norm(gradient)], expected["grad_norm"], rtol=1e-6
        )


def test_temperatures_add_up():
    student, teacher = public_logits()
    found = terms_of(Mlkd(), student, teacher)
    parts = [
        terms_of(Mlkd(temperatures=(t,)), student, teacher) for t in (2, 3, 4, 5, 6)
    ]
    for name, term in found.items():
        np.testing.assert_allclose(term, sum(part[name] for part in parts), rtol=1e-5)


def on_devices(number, scope):
    """Returns the loss and its gradient in the student's logits of all devices."""
    method = Mlkd(scope=scope, batch_axis_name=step_lib.DEVICES)

    def share(student, teacher):
        # The transpose of the gather adds up the losses of all devices.
        loss, gradient = jax.value_and_grad(lambda x: value(method, x, teacher))(
            student
        )
        return jax.lax.pmean(loss, step_lib.DEVICES), gradient / number

    spread = step_lib.data_parallel(
        share, jax.devices()[:number], in_axes=(0, 0), out_axes=0
    )
    loss, gradient = spread(*(x.reshape(number, -1, 100) for x in public_logits()))
    return np.asarray(loss)[0], np.asarray(gradient).reshape(8, 100)


def test_one_device_and_four_agree():
    with jax.enable_x64(True):
        one, four = on_devices(1, "global"), on_devices(4, "global")
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13),
            four,
            one,
        )
        np.testing.assert_allclose(one[0], value(Mlkd(), *public_logits()), rtol=1e-12)
        loss, _ = on_devices(4, "per_device")
        assert abs(loss - one[0]) > 1e-6


@pytest.mark.parametrize("scale", [0.0, 1e3, 1e30])
def test_values_and_gradients_are_finite_at_any_scale(scale):
    student, teacher = (jnp.asarray(scale * x, jnp.float32) for x in public_logits())
    found, gradient = jax.value_and_grad(lambda x: value(Mlkd(), x, teacher))(student)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_losses_are_float32_whatever_the_logits(dtype):
    student, teacher = (jnp.asarray(x, dtype) for x in public_logits())
    found = terms_of(Mlkd(), student, teacher)
    wide = terms_of(Mlkd(), *(x.astype(jnp.float32) for x in (student, teacher)))
    for name, term in found.items():
        assert (term.shape, term.dtype) == ((8,), jnp.float32)
        np.testing.assert_array_equal(term, wide[name])


def test_equal_logits_have_no_loss():
    student, _ = public_logits()
    assert value(Mlkd(), student, student) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperatures": ()}, r"methods\.mlkd\.temperatures=\(\) needs one or more"),
        ({"temperatures": (4.0, 0.0)}, r"methods\.mlkd\.temperature=0\.0 is not above"),
        ({"scope": "host"}, r"methods\.mlkd\.scope='host' is none of"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Mlkd(**given)
