"""KD-SVD's losses against the authors' numbers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.kd_svd import radial_basis, vector_difference, vector_relations
from kdjax.losses.linalg import singular_vectors

POINTS = range(3)


def worst(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


def test_loss_of_vectors_matches_authors(golden):
    arrays = golden("kdsvd_loss")
    with jax.enable_x64(True):
        student, teacher = (
            [jnp.asarray(arrays[f"V_{side}{point}"]) for point in POINTS]
            for side in "st"
        )
        for pair, (front, back) in enumerate(itertools.pairwise(POINTS)):
            for side, vectors in (("s", student), ("t", teacher)):
                found = radial_basis(vectors[back], vectors[front])
                assert worst(found, arrays[f"rbf_{side}_pair{pair}"]) < 1e-12
            loss = vector_relations(
                (student[front], student[back]), (teacher[front], teacher[back])
            )
            assert loss.shape == (5,)
            np.testing.assert_allclose(
                jnp.sum(loss), arrays[f"loss_pair{pair}"], rtol=1e-9
            )

        def total(student):
            pairs = zip(
                itertools.pairwise(student), itertools.pairwise(teacher), strict=True
            )
            return sum(jnp.sum(vector_relations(*pair)) for pair in pairs)

        value, gradients = jax.value_and_grad(total)(student)
    np.testing.assert_allclose(value, arrays["loss_total"], rtol=1e-9)
    for point, gradient in enumerate(gradients):
        assert worst(gradient, arrays[f"dL_dVs{point}"]) < 1e-9


@functools.partial(jax.jit, static_argnames="count")
def first_release(student, teacher, count):
    """Returns vectors whose common sign is the student's, and their weights."""
    target = singular_vectors.compress(teacher, count, algorithm="gram")
    found = singular_vectors.align(
        singular_vectors.compress(student, count + 1, algorithm="gram"), target
    )
    sign = jnp.sign(jnp.max(found, 1) + jnp.min(found, 1))
    share = (sign * singular_vectors.weights(teacher, target))[:, None]
    return found * share, target * share


@pytest.mark.parametrize("count", [1, 2])
def test_several_vectors_have_the_weights_of_the_first_release(golden, count):
    """That release of KD-SVD is not offered itself.

    There the teacher takes on the student's sign, and the loss is half as large times
    the root of the number of vectors.
    """
    arrays = golden("kdsvd_loss")
    with jax.enable_x64(True):
        student, teacher = zip(
            *(
                first_release(arrays[f"x_s{point}"], arrays[f"x_t{point}"], count)
                for point in POINTS
            ),
            strict=True,
        )
        pairs = zip(
            itertools.pairwise(student), itertools.pairwise(teacher), strict=True
        )
        loss = sum(jnp.sum(vector_relations(*pair)) for pair in pairs)
        loss *= 0.5 * np.sqrt(count)
    np.testing.assert_allclose(loss, arrays[f"sskd_loss_k{count}"], rtol=1e-9)


def test_loss_of_two_maps_matches_authors(golden):
    arrays = golden("kdsvd_loss")
    with jax.enable_x64(True):
        student, teacher = (
            [jnp.asarray(arrays[f"x_{side}{point}"]) for point in (0, 1)]
            for side in "st"
        )
        loss = np.asarray(jax.jit(losses.kd_svd)(tuple(student), tuple(teacher)))
    assert loss.shape == (5,)
    np.testing.assert_allclose(loss.sum(), arrays["loss_pair0"], rtol=1e-9)


def test_direct_loss_is_a_squared_distance():
    student = jnp.asarray([[[1.0], [2.0]], [[0.0], [0.0]]])
    teacher = jnp.asarray([[[0.0], [4.0]], [[0.0], [1.0]]])
    np.testing.assert_allclose(vector_difference(student, teacher), [5, 1])


def test_rejects_other_shapes():
    one, other = jnp.zeros((2, 3, 1)), jnp.zeros((2, 4, 1))
    with pytest.raises(ValueError, match=r"\(2, 3, 1\) and teacher \(2, 4, 1\)"):
        vector_relations((one, one), (one, other))
    with pytest.raises(ValueError, match=r"\(2, 3, 1\) and teacher \(2, 4, 1\)"):
        vector_difference(one, other)
