import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill.dkd import Dkd, decouple
from kdjax.distill.method import Inputs, Outputs
from kdjax.distill.soft_targets import SoftTargets
from tests.distill.logits import (
    assert_matches_reference,
    assert_terms_are_float32,
    public_logits,
)

LABEL = np.asarray([3, 14, 15, 92, 65, 35, 89, 79])


def terms_of(method, student, teacher, label=LABEL):
    outputs = [Outputs(jnp.asarray(x), None) for x in (student, teacher)]
    inputs = Inputs(None, jnp.asarray(label), None, None)
    terms, stats = method.loss({}, {}, *outputs, inputs)
    assert stats == {}
    return terms


def value(method, student, teacher, label=LABEL):
    return sum(jnp.mean(x) for x in terms_of(method, student, teacher, label).values())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DKD/alpha1_beta8_T4", {}),
        ("DKD/tckd_only", {"beta": 0.0}),
        ("DKD/nckd_only", {"alpha": 0.0, "beta": 1.0}),
    ],
)
def test_value_and_gradient_match_reference(name, settings):
    assert_matches_reference(functools.partial(value, Dkd(**settings)), name)


def test_tckd_plus_weighted_nckd_is_kd():
    """KD = TCKD + (1 - p_true) NCKD, the paper's equation 5, example by example."""
    student, teacher = public_logits()
    with jax.enable_x64(True):
        parts = terms_of(Dkd(beta=1.0), student, teacher)
        outputs = [Outputs(jnp.asarray(x), None) for x in (student, teacher)]
        whole, _ = SoftTargets().loss({}, {}, *outputs, None)
        own, _ = decouple(jnp.asarray(teacher), jnp.asarray(LABEL), temperature=4.0)
        doubt = jnp.exp(own[:, 1])
        np.testing.assert_allclose(
            parts["target_class"] + doubt * parts["non_target_class"],
            whole["divergence"],
            rtol=1e-10,
        )


def test_both_parts_are_normalized():
    student, _ = public_logits()
    own, others = decouple(jnp.asarray(student), jnp.asarray(LABEL), temperature=1.0)
    assert (own.shape, others.shape) == ((8, 2), (8, 99))
    for log_p in (own, others):
        np.testing.assert_allclose(jnp.exp(log_p).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e3, 1e6, 1e30])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_finite_at_any_scale(scale, temperature):
    """The public code takes logarithms of probabilities that underflow: 120 is enough
    for an infinite loss at T = 4 in float32."""
    student, teacher = (jnp.asarray(scale * x, jnp.float32) for x in public_logits())
    method = Dkd(temperature=temperature)
    for label in (LABEL, np.argmax(student, 1), np.argmax(teacher, 1)):
        found, gradient = jax.value_and_grad(value, argnums=1)(
            method, student, teacher, label
        )
        assert np.isfinite(found)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_terms_are_float32_for_any_logit_dtype(dtype):
    assert_terms_are_float32(Dkd(), dtype, LABEL)


def test_zero_for_equal_logits():
    student, _ = public_logits()
    assert value(Dkd(), student, student) == 0


def test_the_weight_warms_up_for_twenty_epochs_unless_told():
    assert Dkd().warm_up == 20


def test_rejects_two_classes():
    outputs = Outputs(jnp.zeros((4, 2)), None)
    with pytest.raises(ValueError, match=r"methods\.dkd needs 3 classes .* not 2"):
        Dkd().init(jax.random.key(0), outputs, outputs)
    outputs = Outputs(jnp.zeros((4, 3)), None)
    assert Dkd().init(jax.random.key(0), outputs, outputs) == {}


def test_rejects_a_temperature_of_zero():
    with pytest.raises(ValueError, match=r"methods\.dkd\.temperature=0\.0 is not"):
        Dkd(temperature=0.0)
