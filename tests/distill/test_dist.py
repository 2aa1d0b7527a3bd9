import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import step as step_lib
from kdjax.distill.dist import Dist, correlation
from kdjax.distill.method import Outputs

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


def test_value_and_gradient_are_the_public_ones():
    expected = json.loads(PUBLIC.read_text())["values"]["DIST/beta1_gamma1_tau1"]
    with jax.enable_x64(True):
        found, gradient = jax.value_and_grad(lambda *x: value(Dist(), *x))(
            *map(jnp.asarray, public_logits())
        )
        np.testing.assert_allclose(found, expected["loss"], rtol=1e-6)
        np.testing.assert_allclose(
            [np.linalg.norm(gradient)], expected["grad_norm"], rtol=1e-6
        )


def test_factors_and_temperature():
    student, teacher = public_logits()
    plain = terms_of(Dist(), student / 2, teacher / 2)
    found = terms_of(Dist(temperature=2.0, beta=3.0, gamma=5.0), student, teacher)
    np.testing.assert_allclose(
        found["inter_class"], 12 * plain["inter_class"], rtol=1e-6
    )
    np.testing.assert_allclose(
        found["intra_class"], 20 * plain["intra_class"], rtol=1e-6
    )


def on_devices(number, scope):
    """Returns the loss and its gradient in the student's logits of all devices."""
    method = Dist(scope=scope, batch_axis_name=step_lib.DEVICES)

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


def test_one_device_and_four_agree():
    with jax.enable_x64(True):
        one, four = on_devices(1, "global"), on_devices(4, "global")
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13),
            four,
            one,
        )
        loss, _ = one
        np.testing.assert_allclose(loss, value(Dist(), *public_logits()), rtol=1e-12)
        loss, _ = on_devices(4, "per_device")
        assert abs(loss / one[0] - 1) > 1e-3


def test_correlation_is_pearsons():
    x, y = (a[:, :9] for a in public_logits())
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]
    found = correlation(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3])
def test_constant_logits_correlate_with_nothing(constant):
    """Rows of the student without variance, and so columns too."""
    _, teacher = public_logits()
    student = jnp.full((8, 100), constant)
    found, gradient = jax.value_and_grad(lambda x: value(Dist(), x, teacher))(student)
    np.testing.assert_allclose(found, 2, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)


def test_a_batch_of_one_has_no_relation_over_the_batch():
    student, teacher = (jnp.asarray(x[:1]) for x in public_logits())
    terms = terms_of(Dist(), student, teacher)
    np.testing.assert_array_equal(terms["intra_class"], 1)
    gradient = jax.grad(lambda x: value(Dist(), x, teacher))(student)
    assert np.isfinite(gradient).all()
    assert np.any(gradient != 0)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e3, 1e30])
def test_values_and_gradients_are_finite_at_any_scale(scale):
    student, teacher = (jnp.asarray(scale * x, jnp.float32) for x in public_logits())
    found, gradient = jax.value_and_grad(lambda x: value(Dist(), x, teacher))(student)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_losses_are_float32_whatever_the_logits(dtype):
    student, teacher = (jnp.asarray(x, dtype) for x in public_logits())
    found = terms_of(Dist(), student, teacher)
    wide = terms_of(Dist(), *(x.astype(jnp.float32) for x in (student, teacher)))
    for name, term in found.items():
        assert (term.shape, term.dtype) == ((8,), jnp.float32)
        np.testing.assert_array_equal(term, wide[name])


def test_equal_logits_have_next_to_no_loss():
    """What is left is the 1e-8 of the original, at classes of little probability."""
    student, _ = public_logits()
    # Softer, so that every class varies over the batch.
    assert value(Dist(temperature=10.0), student, student) < 0.1
    inter_class = terms_of(Dist(), student, student)["inter_class"]
    np.testing.assert_allclose(inter_class, 0, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": -1.0}, r"methods\.dist\.temperature=-1\.0 is not above 0"),
        ({"scope": "host"}, r"methods\.dist\.scope='host' is none of"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Dist(**given)
