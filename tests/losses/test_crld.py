import functools

import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches, released

VIEWS = ("student", "teacher", "second student", "second teacher")
ENTRIES = ("within_view", "cross_view")


@pytest.mark.parametrize("term", ENTRIES)
def test_each_term_matches_the_release(term):
    """With confidences that the teacher has in some of the drawn views."""
    loss = functools.partial(losses.crld_terms, confidence=0.6, second_confidence=0.8)
    released.assert_matches(
        f"crld/{term}",
        lambda **given: loss(**given)[term],
        {
            f"{name}_logits".replace(" ", "_"): 3 * released.drawn(name, 7, 11)
            for name in VIEWS
        },
        names={"student_logits": "student", "second_student_logits": "second student"},
    )


def test_views_of_which_the_teacher_is_not_sure_are_left_out():
    student, teacher = batches.logits()
    given = student, 100 * teacher, student, 0 * teacher
    terms = losses.crld_terms(*given)
    assert np.all(terms["within_view"] > 0)
    np.testing.assert_array_equal(terms["cross_view"], 0)
    terms = losses.crld_terms(*given, confidence=1.1, second_confidence=0.0)
    np.testing.assert_array_equal(terms["within_view"], 0)
    assert np.all(terms["cross_view"] > 0)


def test_degenerate_inputs():
    student, teacher = batches.logits()

    def loss(student, teacher):
        return sum(losses.crld_terms(student, teacher, student, teacher).values())

    batches.assert_finite_logits(loss)
    batches.assert_computes_in_float32(loss, student, teacher)
    np.testing.assert_allclose(loss(student, student), 0, atol=1e-5)


def test_rejects_invalid_inputs():
    student, teacher = batches.logits()
    with pytest.raises(ValueError, match=r"crld: student .* differ"):
        losses.crld_terms(student, teacher, student[:, :5], teacher)
    with pytest.raises(ValueError, match="crld: temperature=0 is not"):
        losses.crld_terms(student, teacher, student, teacher, temperature=0)
