"""Inputs and numbers of other codebases, and what any comparison of maps must bear."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.distill.method import Outputs
from kdjax.models import Features

_REFERENCES = pathlib.Path(__file__).parents[1] / "golden" / "reference_losses.json"

SAME = ((16, 16), (32, 8), (64, 4))
OTHER = ((12, 8), (24, 4), (48, 2))


def reference(name):
    return json.loads(_REFERENCES.read_text())["values"][name]


def maps_of(first_seed, widths_and_sizes=SAME):
    """Returns the maps of the references, NHWC; 10 and 30 the student's, 20 teacher."""
    return [
        np.random.RandomState(first_seed + i).randn(8, c, h, h).transpose(0, 2, 3, 1)
        for i, (c, h) in enumerate(widths_and_sizes)
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


def assert_matches_reference(method, name, student, teacher):
    """Compares the terms, not weighted, and the norms of their sum's gradients."""
    expected = reference(name)
    with jax.enable_x64(True):
        means, gradients = terms_and_gradients(method, student, teacher)
        np.testing.assert_allclose(sum(means), expected["loss"], rtol=1e-9)
        if "per_stage" in expected:
            np.testing.assert_allclose(means, expected["per_stage"], rtol=1e-9)
        norms = [float(jnp.linalg.norm(g)) for g in gradients]
        norms = [norm for norm in norms if norm]
        np.testing.assert_allclose(norms, expected["grad_norm"], rtol=1e-9)


def assert_matches_baseline(method, golden, name):
    """Compares the weighted loss and all gradients with those of baselines.npz."""
    arrays = golden("baselines")
    student, teacher = ([arrays[f"map_{n}{i}"] for i in range(3)] for n in "st")
    with jax.enable_x64(True):
        means, gradients = terms_and_gradients(method, student, teacher)
        np.testing.assert_allclose(
            method.weight * sum(means), arrays[f"loss__{name}"], rtol=1e-9
        )
        for i, gradient in enumerate(gradients):
            np.testing.assert_allclose(
                method.weight * gradient,
                arrays[f"grad__{name}__{i}"],
                rtol=1e-9,
                atol=1e-12,
            )


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
