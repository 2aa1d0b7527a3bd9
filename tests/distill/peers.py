"""Outputs of networks made of drawn maps, and a check that every method must pass."""

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.distill.method import Outputs
from kdjax.models import Features
from tests.losses.feature_maps import OTHER, SAME
from tests.losses.feature_maps import drawn as maps_of

__all__ = [
    "OTHER",
    "SAME",
    "assert_robust_to_degenerate_inputs",
    "maps_of",
    "outputs_of",
    "terms_and_gradients",
]


def outputs_of(maps, stem=None):
    maps = tuple(map(jnp.asarray, maps))
    stem = maps[0] if stem is None else jnp.asarray(stem)
    size = len(maps[0])
    return Outputs(
        jnp.zeros((size, 3)), Features(stem, maps, maps, jnp.zeros((size, 4)))
    )


def terms_and_gradients(method, student, teacher, variables=None, precomputed=None):
    """Returns means of the terms in order, and their sum's gradient by each map."""

    def total(maps):
        terms, _ = method.loss(
            variables or {},
            precomputed or {},
            outputs_of(maps),
            outputs_of(teacher),
            None,
        )
        assert all(term.shape == (len(maps[0]),) for term in terms.values())
        means = [jnp.mean(term) for term in terms.values()]
        return sum(means), means

    student = [jnp.asarray(x) for x in student]
    (_, means), gradients = jax.value_and_grad(total, has_aux=True)(student)
    return means, gradients


def assert_robust_to_degenerate_inputs(method, *, huge=1e15, precomputed=None):
    """Zeros, equal maps, huge and tiny ones: finite; bfloat16: losses in float32."""
    teacher = [x.astype(np.float32) for x in maps_of(20)]
    drawn = [x.astype(np.float32) for x in maps_of(10)]
    zeros = [np.zeros_like(x) for x in teacher]
    shapes = outputs_of(drawn), outputs_of(teacher)
    variables = jax.jit(method.init)(jax.random.key(0), *shapes)

    @jax.jit
    def run(student, teacher):
        return terms_and_gradients(method, student, teacher, variables, precomputed)

    for student, target in (
        (zeros, teacher),
        (drawn, zeros),
        (zeros, zeros),
        (teacher, teacher),
        *(([scale * x for x in drawn], teacher) for scale in (huge, 1e-25)),
        *(([scale * x for x in drawn],) * 2 for scale in (huge, 1e-25)),
    ):
        means, gradients = run(student, target)
        assert all(np.all(np.isfinite(leaf)) for leaf in (*means, *gradients))
    half = [[jnp.asarray(x, jnp.bfloat16) for x in side] for side in (drawn, teacher)]
    means, _ = run(*half)
    full, _ = run(drawn, teacher)
    assert all(mean.dtype == jnp.float32 for mean in means)
    np.testing.assert_allclose(means, full, rtol=0.05)
