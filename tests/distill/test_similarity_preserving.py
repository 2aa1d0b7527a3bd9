import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import similarity_preserving
from tests.distill import peers, relations


def test_matches_repdistiller():
    peers.assert_matches_reference(
        similarity_preserving.SimilarityPreserving(),
        "SP/last",
        peers.maps_of(10),
        peers.maps_of(20),
    )


def test_degenerate_inputs():
    method = similarity_preserving.SimilarityPreserving()

    @jax.jit
    def run(student, teacher):
        def loss(student):
            terms, _ = method.loss(
                {},
                {},
                relations.outputs_of(None, student),
                relations.outputs_of(None, teacher),
                None,
            )
            return jnp.mean(terms["similarity"])

        return jax.value_and_grad(loss)(student)

    ours, theirs = (
        relations.drawn(seed, 4, 2, 2, 3, dtype="float32") for seed in (0, 1)
    )
    for student in (ours, 0 * ours, 0 * ours + 1, 1e20 * ours, 1e-25 * ours):
        for teacher in (theirs, 0 * theirs, 1e20 * theirs):
            loss, gradient = run(student, teacher)
            assert np.isfinite(loss)
            assert np.all(np.isfinite(gradient))
    half, _ = run(*(jnp.asarray(x, jnp.bfloat16) for x in (ours, theirs)))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, run(ours, theirs)[0], rtol=0.05)


def test_four_devices_match_one():
    relations.assert_four_devices_match_one(
        similarity_preserving.SimilarityPreserving()
    )


def test_rejects_invalid_settings():
    with pytest.raises(ValueError, match=r"methods\.similarity_preserving\.scope='x'"):
        similarity_preserving.SimilarityPreserving(scope="x")
