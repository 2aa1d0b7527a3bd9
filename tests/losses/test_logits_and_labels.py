"""NKD, WSLD and RLD: losses of logits that read the labels."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches, released

RLD = {"alpha": 0.7, "beta": 3.3, "temperature": 2.9, "confidence_temperature": 1.3}

#: By name in the golden file: the loss and its settings.
CASES = {
    "nkd": (losses.nkd, {}),
    "nkd/T3": (losses.nkd, {"temperature": 3.0, "gamma": 3.5}),
    "wsld": (losses.wsld, {}),
    "rld": (losses.rld, RLD),
}
LOSSES = (losses.nkd, losses.wsld, losses.rld)
LABEL = np.asarray([3, 14, 15, 92, 65, 35, 89, 79])


@pytest.mark.parametrize("name", CASES)
def test_matches_the_authors(name):
    loss, settings = CASES[name]
    loss = functools.partial(loss, label=released.LABEL, **settings)
    released.assert_matches(name, loss, released.logits())


def test_rld_matches_the_authors_where_all_classes_are_masked():
    """In the first example the teacher thinks the true class least likely."""
    inputs = released.logits()
    inputs["teacher_logits"][0, released.LABEL[0]] = -50
    loss = functools.partial(losses.rld, label=released.LABEL)
    released.assert_matches("rld/masked", loss, inputs)
    terms = losses.rld_terms(**inputs, label=released.LABEL)
    assert terms["masked_correlation"][0] == 0
    assert np.any(terms["masked_correlation"] > 0)


def test_rld_is_dkd_where_the_teacher_is_right():
    student, teacher = batches.logits()
    right = np.argmax(teacher, axis=1)
    np.testing.assert_allclose(
        losses.rld(student, teacher, right, confidence_temperature=4.0),
        losses.dkd(student, teacher, right),
        rtol=1e-5,
    )


def test_nkd_compares_the_other_classes_without_the_target():
    student, teacher = batches.logits()
    terms = losses.nkd_terms(student, teacher, LABEL, gamma=2.0)
    others = (
        np.stack([np.delete(x, label) for x, label in zip(logits, LABEL, strict=True)])
        for logits in (student, teacher)
    )
    np.testing.assert_allclose(
        terms["non_target_class"], 2 * cross_entropy(*others), rtol=1e-5
    )


def cross_entropy(student, teacher):
    def log_p(x):
        return x - np.log(np.sum(np.exp(x), axis=1, keepdims=True))

    return -np.sum(np.exp(log_p(teacher)) * log_p(student), axis=1)


def test_wsld_weights_by_hand():
    """Cross-entropies of log 2 and log 4: the weights of 1 - e^-2 and 1 - e^-1/2."""
    half, quarter = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    label = np.asarray([0])
    for student, teacher, ratio in ((quarter, half, 2), (half, quarter, 0.5)):
        found = losses.wsld(student, teacher, label, temperature=1.0)
        soft = cross_entropy(student, teacher)
        np.testing.assert_allclose(found, (1 - np.exp(-ratio)) * soft, rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("label", ["drawn", "teacher"])
def test_degenerate_inputs(loss, label):
    student, teacher = batches.logits()
    labels = {"drawn": LABEL, "teacher": teacher.argmax(1)}
    loss = functools.partial(loss, label=labels[label])
    batches.assert_finite_logits(loss)
    batches.assert_computes_in_float32(loss, student, teacher)


@pytest.mark.parametrize("loss", LOSSES)
def test_rejects_invalid_inputs(loss):
    name, two = loss.__name__, np.zeros((2, 4))
    for student, label, message in (
        (two, np.arange(3), r"label is int64\[3\], not integers \[2\]"),
        (two, np.arange(2.0), r"label is float64\[2\], not integers"),
        (np.zeros((2, 3)), np.arange(2), "student .* differ"),
    ):
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            loss(student, two, label)
    with pytest.raises(ValueError, match=f"{name}: temperature=0.0 is not above 0"):
        loss(two, two, np.arange(2), temperature=0.0)
    with pytest.raises(ValueError, match=f"{name}: 1 class has no other"):
        loss(jnp.zeros((2, 1)), jnp.zeros((2, 1)), np.arange(2))
