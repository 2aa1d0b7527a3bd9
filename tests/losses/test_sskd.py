import functools

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.sskd import error_level, selection_weights, similarities
from tests.losses import batches, released

SIZE, CLASSES = len(released.LABEL), released.CLASSES


def rotated_logits():
    """Returns those of both networks, [7, 3, 11]; the teacher's are right in half."""
    student, teacher = (
        3 * released.drawn(f"rotated {side}", SIZE, 3, CLASSES)
        for side in ("student", "teacher")
    )
    return student, teacher + 4 * np.eye(CLASSES)[released.LABEL][:, None]


def embeddings(side):
    """Returns those of the upright images and of the rotated ones, by their names."""
    width, near = {"student": (5, 0), "teacher": (6, 1)}[side]
    upright = released.drawn(f"{side} embedding", SIZE, width)
    rotated = released.drawn(f"rotated {side} embedding", SIZE, 3, width)
    if near:
        rotated = upright[:, None] + 1.5 * rotated
    return {f"{side} embedding": upright, f"rotated {side} embedding": rotated}


def names_of(side):
    return {
        "upright": f"{side} embedding",
        "rotated": f"rotated {side} embedding",
    }


def test_logits_of_rotated_images_match_the_release():
    """With a half of the teacher's errors, of which one is the ninth most likely."""
    student, teacher = rotated_logits()
    released.assert_matches(
        "sskd/rotations",
        functools.partial(losses.rotation_kd, kept=0.5),
        {
            "student_logits": student,
            "teacher_logits": teacher,
            "label": released.LABEL,
        },
        names={"student_logits": "rotated student"},
    )


def test_similarities_match_the_release():
    given = {
        f"{side}_{argument}": embeddings(side)[name]
        for side in ("student", "teacher")
        for argument, name in names_of(side).items()
    }

    def loss(student_upright, student_rotated, teacher_upright, teacher_rotated):
        return losses.similarity_kd(
            (student_upright, student_rotated), (teacher_upright, teacher_rotated)
        )

    released.assert_matches(
        "sskd/similarities",
        loss,
        given,
        names={f"student_{x}": name for x, name in names_of("student").items()},
    )


def test_the_task_of_the_head_matches_the_release():
    names = names_of("teacher")
    given = {x: embeddings("teacher")[name] for x, name in names.items()}
    released.assert_matches(
        "sskd/contrast", losses.rotation_contrast, given, names=names
    )


def test_errors_are_kept_from_the_least_and_rounded_down():
    level = jnp.array([2, 0, 1, 5, 1, 0, 2, 1])
    for kept, selected in {
        0.0: [0, 1, 0, 0, 0, 1, 0, 0],
        0.5: [0, 1, 1, 0, 1, 1, 0, 1],
        # Of six errors, four and a bit: of two equal ones the first.
        0.7: [1, 1, 1, 0, 1, 1, 0, 1],
        1.0: [1, 1, 1, 1, 1, 1, 1, 1],
    }.items():
        expected = np.asarray(selected) * 8 / np.sum(selected)
        found = selection_weights(level, kept=kept)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_shares_are_rounded_in_double_precision():
    """0.29 of a hundred errors are 28, as in Python; in single precision 29."""
    weights = selection_weights(jnp.ones(100, jnp.int32), kept=0.29)
    assert np.sum(np.asarray(weights) > 0) == int(100 * 0.29) == 28


def test_equal_scores_are_no_errors():
    """Differs from the release, where sorting decides."""
    scores = jnp.array([[1.0, 1.0, 0.0], [2.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(error_level(scores, jnp.array([1, 1, 2])), [0, 2, 0])


def test_nothing_is_lost_where_nothing_is_kept():
    """The release's mean over no images is not a number."""
    student, teacher = map(jnp.asarray, rotated_logits())
    label = jnp.argmin(teacher[:, 0], axis=-1)
    wrong = jnp.broadcast_to(teacher[:, :1], teacher.shape)
    loss = functools.partial(losses.rotation_kd, label=label, kept=0.0)
    value, gradient = batches.value_and_gradient(loss, student, wrong)
    assert value == 0
    assert np.all(gradient == 0)


def test_which_errors_are_kept_is_that_of_the_mean():
    """The mean over the batch is that of the divergences of the selected."""
    student, teacher = rotated_logits()
    label = jnp.asarray(released.LABEL)
    found = losses.rotation_kd(student, teacher, label, kept=0.0)
    divergence = losses.kd(*(x.reshape(-1, CLASSES) for x in (student, teacher)))
    right = np.argmax(teacher, -1).reshape(-1) == np.repeat(released.LABEL, 3)
    assert 0 < right.sum() < len(right)
    np.testing.assert_allclose(np.mean(found), np.mean(divergence[right]), rtol=1e-5)
    # All of them need no label.
    every = losses.rotation_kd(student, teacher)
    np.testing.assert_allclose(np.mean(every), np.mean(divergence), rtol=1e-5)


def test_by_hand():
    """A quarter turn of the first of two orthogonal images looks like the second."""
    upright = jnp.eye(2)
    rotated = jnp.array([[[0.0, 3.0]], [[0.0, 0.5]]])
    cosines = similarities(rotated, upright)
    np.testing.assert_allclose(cosines, [[0, 1], [0, 1]])
    found = losses.rotation_contrast(upright, rotated)
    np.testing.assert_allclose(found, [np.log(1 + np.e), np.log(1 + 1 / np.e)], 1e-6)
    # That error is left out; what is kept counts twice.
    other = losses.similarity_kd((upright, -rotated), (upright, rotated), kept=0.0)
    every = losses.similarity_kd((upright, -rotated), (upright, rotated), kept=1.0)
    np.testing.assert_allclose(other, [0, 2 * every[1]], rtol=1e-6)
    assert np.all(np.asarray(every) > 0.1)


def pair_of(loss, **settings):
    """Returns a loss of two arrays, [8, K], made of one upright image and rotations."""

    def of_pair(student, teacher, axis_name=None):
        sides = ((x, jnp.stack([x[:, ::-1], x**2], axis=1)) for x in (student, teacher))
        return loss(*sides, axis_name=axis_name, **settings)

    return of_pair


def rotations_of(student, teacher, axis_name=None):
    """Returns `rotation_kd` of two turns of eight images, with a half of the errors."""
    label = jnp.argmax(student[:, :8], axis=-1)
    turned = (jnp.stack([x, x[:, ::-1]], axis=1) for x in (student, teacher))
    return losses.rotation_kd(*turned, label, kept=0.5, axis_name=axis_name)


def contrast_of(student, teacher, axis_name=None):
    return losses.rotation_contrast(
        student, jnp.stack([teacher, student], axis=1), axis_name=axis_name
    )


@pytest.mark.parametrize(
    ("loss", "arrays"),
    [
        (rotations_of, batches.logits()),
        (pair_of(losses.similarity_kd), batches.pooled()),
        (contrast_of, batches.pooled()[:1] * 2),
    ],
    ids=["rotations", "similarities", "contrast"],
)
def test_four_devices_match_one(loss, arrays):
    batches.assert_devices_agree(loss, *arrays)


def test_degenerate_inputs():
    batches.assert_finite_logits(rotations_of)
    for loss in (pair_of(losses.similarity_kd), contrast_of):
        batches.assert_finite_vectors(loss)
        batches.assert_computes_in_float32(loss, *batches.pooled()[:1] * 2)
    batches.assert_computes_in_float32(rotations_of, *batches.logits())
    same = losses.similarity_kd(*[(jnp.eye(4), jnp.ones((4, 3, 4)))] * 2)
    np.testing.assert_array_equal(same, 0)


def test_rejects_invalid_inputs():
    student, teacher = map(jnp.asarray, rotated_logits())
    with pytest.raises(ValueError, match=r"rotation_kd: student .* differ"):
        losses.rotation_kd(student[..., 1:], teacher)
    with pytest.raises(ValueError, match=r"rotation_kd: .* are not rotations of one b"):
        losses.rotation_kd(student[:, 0], teacher[:, 0])
    with pytest.raises(ValueError, match=r"rotation_kd: kept=0\.5 needs labels"):
        losses.rotation_kd(student, teacher, kept=0.5)
    with pytest.raises(ValueError, match="rotation_kd: temperature=0 is not above 0"):
        losses.rotation_kd(student, teacher, temperature=0)
    upright = jnp.eye(7)
    with pytest.raises(ValueError, match=r"similarity_kd: .* are not rotations of one"):
        losses.similarity_kd((upright, student), (upright, teacher[:, 1:]))
    with pytest.raises(ValueError, match="rotation_contrast: temperature=-1 is not"):
        losses.rotation_contrast(upright, student, temperature=-1)
