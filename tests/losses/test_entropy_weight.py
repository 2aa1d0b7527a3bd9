import functools

import jax
import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches, released


def weighted(loss, **settings):
    """Returns a loss of which each example has its weight."""

    def weigh(student_logits, teacher_logits):
        weight = losses.entropy_weight(student_logits, teacher_logits)
        return weight * loss(student_logits, teacher_logits, **settings)

    return weigh


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("ea_kd", weighted(losses.kd, temperature=2.5)),
        (
            "ea_dkd",
            weighted(
                functools.partial(losses.dkd, label=released.LABEL),
                alpha=0.7,
                beta=3.3,
                temperature=2.9,
            ),
        ),
    ],
)
def test_matches_the_authors(name, loss):
    """But for the 1e-10 inside their logarithms."""
    released.assert_matches(name, loss, released.logits(), rtol=1e-8)


def test_the_authors_kd_divides_by_the_number_of_classes():
    """Not by its logarithm, as their MLKD does: another loss, by the released value.

    With 100 for log 11 the student's entropy hardly counts.
    """
    logits = released.logits()
    student, teacher = logits.values()
    loss = losses.kd(student, teacher, temperature=2.5)
    of_student, of_teacher = map(entropy, (student, teacher))
    as_released = np.mean(of_teacher * (1 + of_student / 100) / 2 * loss)
    wanted = released.values()["ea_kd/bound of 100"]["value"]
    np.testing.assert_allclose(as_released, wanted, rtol=1e-6)
    found = np.mean(weighted(losses.kd, temperature=2.5)(student, teacher))
    assert found > 1.5 * wanted


def entropy(logits):
    p = np.exp(logits / 3)
    p /= p.sum(axis=1, keepdims=True)
    return -np.sum(p * np.log(p), axis=1)


def test_uniform_probabilities_weigh_log_k_and_certain_ones_nothing():
    zeros, certain = np.zeros((1, 8)), np.asarray([[1e4] + 7 * [0]])
    np.testing.assert_allclose(losses.entropy_weight(zeros, zeros), np.log(8), 1e-6)
    np.testing.assert_allclose(
        losses.entropy_weight(certain, zeros), np.log(8) / 2, 1e-6
    )
    np.testing.assert_array_equal(losses.entropy_weight(zeros, certain), 0)
    np.testing.assert_array_equal(losses.entropy_weight(zeros[:, :1], zeros[:, :1]), 0)


def test_has_no_gradient():
    def total(student):
        return losses.entropy_weight(student, batches.logits()[1]).sum()

    np.testing.assert_array_equal(jax.grad(total)(batches.logits()[0]), 0)


def test_degenerate_inputs():
    batches.assert_finite_logits(losses.entropy_weight)
    batches.assert_computes_in_float32(losses.entropy_weight, *batches.logits())
