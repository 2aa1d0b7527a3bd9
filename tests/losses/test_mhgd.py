"""MHGD's losses against the authors' numbers, and what must hold for any logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.losses import mhgd


@pytest.mark.parametrize("pair", [0, 1])
def test_graphs_and_divergence_match_authors(golden, pair):
    arrays = golden("mhgd_end2end")
    with jax.enable_x64(True):
        student, teacher = (jnp.asarray(arrays[f"logits_{x}_pair{pair}"]) for x in "st")
        for side, logits in (("s", student), ("t", teacher)):
            found = mhgd.graph(logits, teacher, smoothing="tanh")
            np.testing.assert_allclose(
                found, arrays[f"graph_{side}_pair{pair}"], rtol=1e-9
            )
        rows = np.asarray(mhgd.graph_divergence(student, teacher))
    assert rows.shape == (student.shape[1],)
    np.testing.assert_allclose(np.sum(rows), arrays["kl_pair"][pair], rtol=1e-9)


@pytest.mark.parametrize("smoothing", sorted(mhgd.SMOOTHINGS))
def test_divergence_is_0_for_equal_logits_and_positive_otherwise(smoothing):
    students = 2 * jax.random.normal(jax.random.key(0), (20, 3, 4, 7))
    teacher = jax.random.normal(jax.random.key(1), (3, 4, 7))
    divergence = functools.partial(mhgd.graph_divergence, smoothing=smoothing)
    np.testing.assert_array_equal(divergence(teacher, teacher), np.zeros(4))
    found = jax.vmap(divergence, in_axes=(0, None))(students, teacher)
    assert found.shape == (20, 4)
    assert np.all(found > 0)


def test_divergence_by_hand():
    """One row of two edges; the second row is equal and adds nothing."""
    with jax.enable_x64(True):
        student = jnp.arctanh(jnp.asarray([[[np.log(2) / 2, -np.log(2) / 2], [0, 0]]]))
        found = mhgd.graph_divergence(student, jnp.zeros((1, 2, 2)), smoothing="tanh")
    expected = 2 / 3 * np.log(4 / 3) + 1 / 3 * np.log(2 / 3)
    np.testing.assert_allclose(found, [expected, 0], rtol=1e-12)


def test_without_smoothing_a_graph_is_the_softmax_of_the_logits():
    """Also where an edge is 0 in float32, whose logarithm would be infinite."""
    student, teacher = (jnp.asarray([[[x, 0.0]]]) for x in (-200.0, np.log(3)))
    found = mhgd.graph(teacher, teacher, smoothing="none")
    np.testing.assert_allclose(found, [[[0.75, 0.25]]], rtol=1e-6)
    found = mhgd.graph_divergence(student, teacher, smoothing="none")
    np.testing.assert_allclose(found, [np.log(4)], rtol=1e-6)


@pytest.mark.parametrize("smoothing", sorted(mhgd.SMOOTHINGS))
def test_finite_with_huge_logits(smoothing):
    sign = jnp.where(jnp.arange(24).reshape(2, 3, 4) % 2 == 0, 1.0, -1.0)
    student, teacher = 1e30 * sign, -1e30 * sign
    found = mhgd.graph(student, teacher, smoothing=smoothing)
    np.testing.assert_allclose(np.sum(found, axis=-1), np.ones((2, 3)), rtol=1e-6)
    if smoothing != "none":
        assert np.max(found) / np.min(found) < np.exp(2) * 1.001
    value, gradient = jax.jit(
        jax.value_and_grad(
            lambda x: jnp.sum(mhgd.graph_divergence(x, teacher, smoothing=smoothing))
        )
    )(student)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_rejects_other_shapes():
    with pytest.raises(ValueError, match=r"estimate \(2, 3\) and back \(2, 4\)"):
        mhgd.estimation_loss(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
    with pytest.raises(
        ValueError, match=r"student \(1, 2, 3\) and teacher \(1, 2, 4\)"
    ):
        mhgd.graph_divergence(
            jnp.zeros((1, 2, 3)), jnp.zeros((1, 2, 4)), smoothing="tanh"
        )
