import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.dkd import decouple
from tests.losses import batches

LABEL = np.asarray([3, 14, 15, 92, 65, 35, 89, 79])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DKD/alpha1_beta8_T4", {}),
        ("DKD/tckd_only", {"beta": 0.0}),
        ("DKD/nckd_only", {"alpha": 0.0, "beta": 1.0}),
    ],
)
def test_matches_mdistiller(name, settings):
    loss = functools.partial(losses.dkd, label=LABEL, **settings)
    batches.assert_matches_reference(loss, name, *batches.logits())


def test_tckd_plus_weighted_nckd_is_kd():
    """KD = TCKD + (1 - p_target) NCKD, the paper's equation 5, example by example."""
    with jax.enable_x64(True):
        student, teacher = map(jnp.asarray, batches.logits())
        terms = losses.dkd_terms(student, teacher, LABEL, beta=1.0)
        (target, _) = decouple(teacher, jnp.asarray(LABEL), temperature=4.0)
        np.testing.assert_allclose(
            terms["target_class"] + jnp.exp(target[:, 1]) * terms["non_target_class"],
            losses.kd(student, teacher, temperature=4.0),
            rtol=1e-12,
        )


def test_by_hand():
    """Target 1/2 against 3/4; the others 1 : 3 against 1 : 1."""
    student = jnp.log(jnp.asarray([[0.125, 0.75, 0.125]]))
    teacher = jnp.log(jnp.asarray([[0.125, 0.5, 0.375]]))
    terms = losses.dkd_terms(
        student, teacher, np.array([1]), alpha=2.0, beta=3.0, temperature=1.0
    )
    tckd = np.log(4 / 3) / 2
    nckd = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    np.testing.assert_allclose(terms["target_class"], [2 * tckd], rtol=1e-5)
    np.testing.assert_allclose(terms["non_target_class"], [3 * nckd], rtol=1e-5)
    np.testing.assert_allclose(
        losses.dkd(student, teacher, np.array([1]), temperature=1.0),
        [tckd + 8 * nckd],
        rtol=1e-5,
    )


def test_both_parts_are_normalized():
    target, others = decouple(
        jnp.asarray(batches.logits()[0]), jnp.asarray(LABEL), temperature=1.0
    )
    assert (target.shape, others.shape) == ((8, 2), (8, 99))
    for log_p in (target, others):
        np.testing.assert_allclose(jnp.exp(log_p).sum(axis=1), 1, rtol=1e-5)


def test_zero_for_equal_logits():
    student, _ = batches.logits()
    np.testing.assert_array_equal(losses.dkd(student, student, LABEL), 0)


@pytest.mark.parametrize("label", ["drawn", "student", "teacher"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_degenerate_inputs(label, temperature):
    """The public code takes logarithms of probabilities that underflow: differences of
    120 are enough for an infinite loss at T = 4 in float32."""
    student, teacher = batches.logits()
    labels = {"student": student.argmax(1), "teacher": teacher.argmax(1)}
    loss = functools.partial(
        losses.dkd, label=labels.get(label, LABEL), temperature=temperature
    )
    batches.assert_finite_logits(loss)
    batches.assert_computes_in_float32(loss, student, teacher)


def test_nckd_of_two_classes_is_zero():
    terms = losses.dkd_terms(np.eye(2), np.eye(2)[::-1], np.array([0, 0]))
    np.testing.assert_array_equal(terms["non_target_class"], 0)
    assert np.all(terms["target_class"] > 0)


@pytest.mark.parametrize(
    ("classes", "label", "message"),
    [
        (4, np.arange(3), r"label is int64\[3\], not integers \[2\]"),
        (4, np.arange(2.0), r"label is float64\[2\], not integers"),
        (1, np.arange(2), "1 class has no other"),
    ],
)
def test_rejects_invalid_inputs(classes, label, message):
    with pytest.raises(ValueError, match=f"dkd: {message}"):
        losses.dkd(np.zeros((2, classes)), np.zeros((2, classes)), label)
