import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.distill.correlation_congruence import RELATIONS, CorrelationCongruence
from tests.distill import relations
from tests.losses import batches

LOSSES = {
    "consecutive": losses.correlation_congruence,
    "kernel": losses.correlation_congruence_kernel,
}


@pytest.mark.parametrize("relation", RELATIONS)
def test_term_is_the_loss_of_the_embeddings(relation):
    arrays = [batches.drawn(seed, 8, 5, dtype="float32") for seed in (0, 1)]
    identity = {"kernel": jnp.eye(5), "bias": jnp.zeros(5)}
    terms, stats = CorrelationCongruence(relation=relation, width=5).loss(
        {"params": {"student": identity, "teacher": identity}},
        {},
        *map(relations.outputs_of, arrays),
        None,
    )
    assert stats == {}
    np.testing.assert_allclose(
        terms["correlation"], LOSSES[relation](*arrays), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("relation", RELATIONS)
def test_four_devices_match_one(relation):
    """Both embeddings learn, and learn the same."""
    method = CorrelationCongruence(relation=relation, width=4, dtype="float64")
    _, _, (learned, _) = relations.assert_four_devices_match_one(method)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(learned))


def test_embeddings_have_the_published_width():
    student, teacher = (
        relations.outputs_of(batches.drawn(seed, 6, width, dtype="float32"))
        for seed, width in ((0, 5), (1, 7))
    )
    method = CorrelationCongruence()
    params = jax.eval_shape(method.init, jax.random.key(0), student, teacher)["params"]
    assert params["student"]["kernel"].shape == (5, 128)
    assert params["teacher"]["kernel"].shape == (7, 128)


def test_rejects_invalid_settings():
    message = r"methods\.correlation_congruence\.width=0 is less than 1"
    with pytest.raises(ValueError, match=message):
        CorrelationCongruence(width=0)
