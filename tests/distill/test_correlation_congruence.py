import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import correlation_congruence
from tests.distill import peers, relations


def identities(*features):
    """Embeddings that change nothing."""
    return {
        "params": {
            side: {"kernel": jnp.eye(x.shape[1]), "bias": jnp.zeros(x.shape[1])}
            for side, x in zip(("student", "teacher"), features, strict=True)
        }
    }


def test_matches_repdistiller():
    expected = peers.reference("CC/embed128")
    with jax.enable_x64(True):
        student, teacher = (relations.drawn(seed, 8, 128) for seed in (42, 41))
        loss, gradient = relations.loss_and_gradient(
            correlation_congruence.CorrelationCongruence(dtype="float64"),
            student,
            teacher,
            identities(student, teacher),
        )
        np.testing.assert_allclose(loss, expected["loss"], rtol=1e-9)
        np.testing.assert_allclose(
            jnp.linalg.norm(gradient), expected["grad_norm"][0], rtol=1e-9
        )


def test_series_approximates_the_kernel():
    x, y = (relations.drawn(seed, 4, 3, dtype="float32") for seed in (0, 1))
    found = correlation_congruence.gaussian_kernel(x, y, gamma=0.4, order=8)
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    square = np.square(x[:, None] - y[None]).sum(-1)
    np.testing.assert_allclose(found, np.exp(-0.4 * square), rtol=1e-5)
    # The published order is 2.
    second = np.exp(-0.8) * (1 + 0.8 * x @ y.T + 0.32 * (x @ y.T) ** 2)
    found = correlation_congruence.gaussian_kernel(x, y, gamma=0.4, order=2)
    np.testing.assert_allclose(found, second, rtol=1e-5)


@pytest.mark.parametrize("relation", correlation_congruence.RELATIONS)
def test_degenerate_inputs(relation):
    method = correlation_congruence.CorrelationCongruence(relation=relation, width=4)
    relations.assert_robust_to_degenerate_inputs(method, learns=True)


@pytest.mark.parametrize("relation", correlation_congruence.RELATIONS)
def test_four_devices_match_one(relation):
    """The pairs across the devices' borders are there."""
    method = correlation_congruence.CorrelationCongruence(
        relation=relation, width=4, dtype="float64"
    )
    relations.assert_four_devices_match_one(method)


def test_both_embeddings_learn():
    student, teacher = (
        relations.outputs_of(relations.drawn(seed, 6, width, dtype="float32"))
        for seed, width in ((0, 5), (1, 7))
    )
    method = correlation_congruence.CorrelationCongruence()
    variables = method.init(jax.random.key(0), student, teacher)
    assert variables["params"]["teacher"]["kernel"].shape == (7, 128)

    def total(params):
        terms, stats = method.loss({"params": params}, {}, student, teacher, None)
        assert stats == {}
        return jnp.mean(terms["correlation"])

    for leaf in jax.tree.leaves(jax.grad(total)(variables["params"])):
        assert np.any(leaf != 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relation": "x"}, r"methods\.correlation_congruence\.relation='x' is none"),
        ({"scope": "x"}, r"scope='x' is none of"),
        ({"width": 0}, r"width=0 is less than 1"),
    ],
)
def test_rejects_invalid_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        correlation_congruence.CorrelationCongruence(**settings)
