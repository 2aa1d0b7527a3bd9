import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.dist import correlation
from tests.losses import batches


def test_matches_the_authors():
    batches.assert_matches_reference(
        losses.dist, "DIST/beta1_gamma1_tau1", *batches.logits()
    )


def test_weights_and_temperature():
    student, teacher = batches.logits()
    plain = losses.dist_terms(student / 2, teacher / 2)
    terms = losses.dist_terms(student, teacher, temperature=2.0, beta=3.0, gamma=5.0)
    for name, factor in (("inter_class", 12), ("intra_class", 20)):
        np.testing.assert_allclose(terms[name], factor * plain[name], rtol=1e-6)
    total = losses.dist(student, teacher, temperature=2.0, beta=3.0, gamma=5.0)
    np.testing.assert_allclose(total, sum(terms.values()), rtol=1e-6)


def test_four_devices_match_one():
    batches.assert_devices_agree(losses.dist, *batches.logits())


def test_correlation_matches_numpy():
    x, y = (a[:, :9] for a in batches.logits())
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)]
    with jax.enable_x64(True):
        found = correlation(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3])
def test_constant_logits_have_zero_correlation(constant):
    """Rows of the student without variance, and so columns too."""
    _, teacher = batches.logits()

    def total(x):
        return jnp.mean(losses.dist(x, teacher))

    found, gradient = jax.value_and_grad(total)(jnp.full((8, 100), constant))
    np.testing.assert_allclose(found, 2, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)


def test_batch_of_one():
    student, teacher = (x[:1] for x in batches.logits())
    terms = losses.dist_terms(student, teacher)
    np.testing.assert_array_equal(terms["intra_class"], 1)
    batches.assert_finite(losses.dist, [(student, teacher)])


def test_near_zero_for_equal_logits():
    """What remains is the 1e-8 of the original, at classes of little probability."""
    student, _ = batches.logits()
    # At this temperature every class varies over the batch.
    terms = losses.dist_terms(student, student, temperature=10.0)
    assert np.all(sum(terms.values()) < 0.1)
    np.testing.assert_allclose(
        losses.dist_terms(student, student)["inter_class"], 0, atol=1e-5
    )


def test_degenerate_inputs():
    batches.assert_finite_logits(losses.dist)
    batches.assert_computes_in_float32(losses.dist, *batches.logits())


def test_rejects_different_shapes():
    with pytest.raises(ValueError, match=r"dist: student .* differ"):
        losses.dist(np.zeros((8, 4)), np.zeros((8, 5)))
    with pytest.raises(ValueError, match="not vectors"):
        losses.dist(np.zeros((8, 4, 2)), np.zeros((8, 4, 2)))
