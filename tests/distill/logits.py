"""Terms of methods that compare logits alone."""

import jax.numpy as jnp

from kdjax.distill.method import Inputs, Outputs
from tests.losses import batches

LABEL = jnp.asarray([3, 14, 15, 92, 65, 35, 89, 79])


def terms_of(method, student=None, teacher=None, precomputed=None):
    """Returns the terms of logits, by default of those of the references."""
    given = (student, teacher) if student is not None else batches.logits()
    outputs = [Outputs(jnp.asarray(x), None) for x in given]
    terms, stats = method.loss(
        {}, precomputed or {}, *outputs, Inputs(None, LABEL, None, None)
    )
    assert stats == {}
    assert all(term.shape == (len(given[0]),) for term in terms.values())
    return terms
