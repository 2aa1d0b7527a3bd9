import functools

import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches, released


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("KD/T4", "divergence"),
        ("MLKD/bc_T4", "batch_correlation"),
        ("MLKD/cc_T4", "class_correlation"),
    ],
)
def test_each_level_matches_the_authors(name, term):
    """Of the original's functions, before it multiplies their results by masks."""
    batches.assert_matches_reference(
        lambda *x: losses.mlkd_terms(*x, temperatures=(4.0,))[term],
        name,
        *batches.logits(),
    )


@pytest.mark.parametrize(
    "term", ["divergence", "batch_correlation", "class_correlation"]
)
def test_two_views_are_those_of_the_released_code(term):
    """Masks that multiply sums, and first views in the place of second ones, too."""
    inputs = {
        f"{name}_logits".replace(" ", "_"): 3 * released.drawn(name, 7, 11)
        for name in ("student", "teacher", "second student", "second teacher")
    }
    names = {"student_logits": "student"}
    if term == "divergence":
        names["second_student_logits"] = "second student"
    released.assert_matches(
        f"mlkd/{term}",
        lambda **given: losses.mlkd_two_view_terms(**given)[term],
        inputs,
        names=names,
    )


def test_two_views_of_four_devices_match_one():
    def loss(student, teacher, *, axis_name=None):
        # The second views are the first ones in the other order of the classes.
        views = [x[:, ::-1] for x in (student, teacher)]
        terms = losses.mlkd_two_view_terms(
            student, teacher, *views, axis_name=axis_name
        )
        return sum(terms.values())

    batches.assert_devices_agree(loss, *batches.logits())


def test_sums_over_temperatures():
    logits = batches.logits()
    parts = [losses.mlkd_terms(*logits, temperatures=(t,)) for t in (2, 3, 4, 5, 6)]
    for name, term in losses.mlkd_terms(*logits).items():
        np.testing.assert_allclose(term, sum(part[name] for part in parts), rtol=1e-5)
    total = sum(sum(part.values()) for part in parts)
    np.testing.assert_allclose(losses.mlkd(*logits), total, rtol=1e-5)


def test_by_hand():
    """At certain, opposite classes the products are 1 on the diagonal or off it."""
    student = 1e3 * np.array([[1.0, 0.0], [0.0, 1.0]])
    teacher = 1e3 * np.array([[1.0, 0.0], [1.0, 0.0]])
    terms = losses.mlkd_terms(student, teacher, temperatures=(1.0,))
    np.testing.assert_allclose(terms["divergence"], [0, 1e3], rtol=1e-6)
    np.testing.assert_allclose(terms["batch_correlation"], [1, 1], rtol=1e-6)
    np.testing.assert_allclose(terms["class_correlation"], [1, 1], rtol=1e-6)


def test_four_devices_match_one():
    loss = functools.partial(losses.mlkd, temperatures=(2.0, 4.0))
    batches.assert_devices_agree(loss, *batches.logits())


def test_zero_for_equal_logits():
    student, _ = batches.logits()
    np.testing.assert_array_equal(losses.mlkd(student, student), 0)


def test_degenerate_inputs():
    batches.assert_finite_logits(losses.mlkd)
    batches.assert_computes_in_float32(losses.mlkd, *batches.logits())


def test_rejects_invalid_inputs():
    with pytest.raises(ValueError, match=r"mlkd: student .* differ"):
        losses.mlkd(np.zeros((8, 4)), np.zeros((8, 5)))
    with pytest.raises(ValueError, match=r"mlkd: second_temperatures=\(7,\) are not s"):
        losses.mlkd_two_view_terms(*batches.logits() * 2, second_temperatures=(7,))
    with pytest.raises(ValueError, match=r"mlkd: temperatures=\(\) needs one or more"):
        losses.mlkd(*batches.logits(), temperatures=())
