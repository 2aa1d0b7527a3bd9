import functools

import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches, released


@pytest.mark.parametrize(
    ("entry", "term", "share"),
    [
        ("target_class", "target_class", 1.0),
        ("non_target_class", "non_target_class", 1.0),
        # Five of eleven classes.
        ("top", "non_target_class", 0.4),
    ],
)
def test_each_term_matches_the_release(entry, term, share):
    """Which got one example at a time."""
    released.assert_matches(
        f"deepkd/{entry}",
        lambda **given: losses.deepkd_terms(**given, share=share)[term],
        released.logits() | {"label": released.LABEL},
    )


def test_the_release_multiplies_means_over_the_batch():
    """The weight 1 - p_target of an example and its divergence, where all are there."""
    apart, whole = (
        released.values()[f"deepkd/{name}"]["value"]
        for name in ("non_target_class", "whole batch")
    )
    assert abs(whole / apart - 1) > 1e-3
    given = released.logits()
    terms = losses.dkd_terms(**given, label=released.LABEL, alpha=1.0, beta=1.0)
    teacher = given["teacher_logits"] / 4
    likely = np.exp(teacher - np.log(np.exp(teacher).sum(axis=1, keepdims=True)))
    others = 1 - likely[np.arange(len(likely)), released.LABEL]
    product = np.mean(others) * np.mean(terms["non_target_class"])
    np.testing.assert_allclose(product, whole, rtol=1e-5)


def test_both_terms_of_all_classes_are_kd():
    student, teacher = batches.logits()
    label = np.arange(len(student)) % student.shape[1]
    terms = losses.deepkd_terms(student, teacher, label, temperature=3.0)
    np.testing.assert_allclose(
        sum(terms.values()), losses.kd(student, teacher, temperature=3.0), rtol=1e-5
    )


def test_few_classes_are_the_most_likely_ones():
    teacher = np.asarray([[5.0, 3.0, 4.0, -1.0, 0.0]], np.float32)
    changed = np.asarray([[0.0, 0.0, 0.0, 9.0, 9.0]], np.float32)

    def loss(student, label, share):
        terms = losses.deepkd_terms(student, teacher, np.asarray([label]), share=share)
        return float(terms["non_target_class"][0])

    # Three classes are 0, 1 and 2.
    assert loss(teacher, 1, 0.6) == pytest.approx(0, abs=1e-6)
    assert loss(teacher + changed, 1, 0.6) == pytest.approx(0, abs=1e-6)
    assert loss(teacher + changed, 1, 0.7) > 1e-3
    # The share is never less than two classes: 0 and 2.
    assert loss(teacher + changed[:, ::-1], 1, 1e-3) > 1e-3


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_degenerate_inputs(share):
    student, teacher = batches.logits()
    label = np.arange(len(student)) % student.shape[1]

    def loss(student, teacher):
        classes = np.arange(student.shape[0]) % student.shape[1]
        terms = losses.deepkd_terms(student, teacher, classes, share=share)
        return sum(terms.values())

    batches.assert_finite_logits(loss)
    batches.assert_computes_in_float32(loss, student, teacher)
    terms = losses.deepkd_terms(student, student, label, share=share)
    np.testing.assert_allclose(sum(terms.values()), 0, atol=1e-5)


def test_rejects_invalid_inputs():
    student, teacher = batches.logits()
    label = np.zeros(len(student), np.int32)
    loss = functools.partial(losses.deepkd_terms, student)
    with pytest.raises(ValueError, match=r"deepkd: student .* differ"):
        loss(teacher[:, :5], label)
    with pytest.raises(ValueError, match="deepkd: temperature=0 is not"):
        loss(teacher, label, temperature=0)
    with pytest.raises(ValueError, match=r"deepkd: label is float32"):
        loss(teacher, label.astype(np.float32))
    with pytest.raises(ValueError, match=r"deepkd: share=0 is not in \(0, 1\]"):
        loss(teacher, label, share=0)
