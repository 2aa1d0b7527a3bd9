"""Feature maps of the reference values, and checks for every loss on maps."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

_REFERENCES = pathlib.Path(__file__).parents[1] / "golden" / "reference_losses.json"

#: Channels and size of three stages: the teacher's, and those of another student.
SAME = ((16, 16), (32, 8), (64, 4))
OTHER = ((12, 8), (24, 4), (48, 2))


def reference(name):
    """Returns the value and the gradient norms of a public implementation."""
    return json.loads(_REFERENCES.read_text())["values"][name]


def drawn(first_seed, shapes=SAME):
    """Returns the maps of the references, NHWC; 10 and 30 the student's, 20 teacher."""
    return [
        np.random.RandomState(first_seed + i).randn(8, c, h, h).transpose(0, 2, 3, 1)
        for i, (c, h) in enumerate(shapes)
    ]


def baseline(golden):
    """Returns the maps of baselines.npz, the student's and the teacher's."""
    arrays = golden("baselines")
    return [[arrays[f"map_{side}{i}"] for i in range(3)] for side in "st"]


def values_and_gradients(loss, student, teacher):
    """Returns the mean of a loss of each pair of maps and its gradient, in float64."""

    @jax.jit
    def run(student, teacher):
        def mean(student, teacher):
            value = loss(student, teacher)
            assert value.ndim == 1
            assert value.dtype == jnp.float64
            return jnp.mean(value)

        return [
            jax.value_and_grad(mean)(*maps)
            for maps in zip(student, teacher, strict=True)
        ]

    with jax.enable_x64(True):
        student, teacher = jax.tree.map(jnp.asarray, (student, teacher))
        return zip(*jax.device_get(run(student, teacher)), strict=True)


def assert_matches_reference(loss, name, student, teacher, weights=(1, 1, 1)):
    """Compares weighted values of all stages, and their gradients' norms, at 1e-9."""
    expected = reference(name)
    values, gradients = values_and_gradients(loss, student, teacher)
    weights = weights[: len(values)]
    values = np.asarray(values) * weights
    if "per_stage" in expected:
        np.testing.assert_allclose(values, expected["per_stage"], rtol=1e-9)
    np.testing.assert_allclose(values.sum(), expected["loss"], rtol=1e-9)
    norms = [w * np.linalg.norm(g) for w, g in zip(weights, gradients, strict=True)]
    np.testing.assert_allclose(norms, expected["grad_norm"], rtol=1e-9)


def assert_robust_to_degenerate_inputs(loss, student, teacher, *, huge=1e15):
    """Zeros, equal maps, huge and tiny ones: finite; bfloat16: values in float32."""
    student, teacher = (jnp.asarray(x, jnp.float32) for x in (student, teacher))

    @jax.jit
    def run(student, teacher):
        def total(student):
            value = loss(student, teacher)
            return jnp.sum(value), value

        return jax.value_and_grad(total, has_aux=True)(student)

    pairs = [
        (0 * student, teacher),
        (student, 0 * teacher),
        (0 * student, 0 * teacher),
        (teacher, teacher),
        *((scale * student, teacher) for scale in (huge, 1e-25)),
        *((scale * student, scale * student) for scale in (huge, 1e-25)),
    ]
    for pair in pairs:
        if pair[0].shape == student.shape:
            (_, value), gradient = run(*pair)
            assert np.all(np.isfinite(value))
            assert np.all(np.isfinite(gradient))
    half = (x.astype(jnp.bfloat16) for x in (student, teacher))
    value = loss(*half)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, loss(student, teacher), rtol=0.05)
