import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill.linalg import singular_gradients

CASES = ["tall", "tall2", "wide", "near", "square"]
DEGENERATE = ["degen_tall", "degen_wide"]


def worst(found, expected):
    """Returns the largest error in units of the largest entry."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


@pytest.mark.parametrize("case", CASES + DEGENERATE)
def test_released_rule_matches_authors(golden, case):
    arrays = golden("svd_grad", f"{case}__")
    with jax.enable_x64(True):
        given_ = [jnp.asarray(arrays[name]) for name in ("U", "s", "V", "dV")]
        found = jax.jit(singular_gradients.released_rule)(*given_)
    assert worst(found, arrays["dX_kdtf"]) < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_exact_gradient_is_the_reference(golden, case):
    arrays = golden("svd_grad", f"{case}__")
    with jax.enable_x64(True):
        x = jnp.asarray(golden("svd_align", f"{case}__")["x"])
        assert not np.any(arrays["dV"][..., 4:])
        found = jax.jit(singular_gradients.exact_gradient)(
            x.reshape(arrays["dX_exact"].shape),
            jnp.asarray(arrays["V"][..., :4]),
            jnp.asarray(arrays["dV"][..., :4]),
        )
    assert worst(found, arrays["dX_exact"]) < 1e-9


def test_exact_gradient_is_finite_for_vectors_that_are_not_the_first():
    """As of a flat spectrum, where a value left out may exceed a kept one."""
    x = jnp.diag(jnp.asarray([3.0, 2.0, 1.0]))[None]
    second = jnp.asarray([0.0, 1.0, 0.0]).reshape(1, 3, 1)
    found = singular_gradients.exact_gradient(x, second, jnp.ones_like(second))
    assert np.all(np.isfinite(found))


def reference(x, vectors, cotangent):
    """Sums over all singular vectors, in NumPy."""
    x, vectors, cotangent = (np.asarray(y, np.float64) for y in (x, vectors, cotangent))
    gradients = []
    for matrix, kept, wanted in zip(x, vectors, cotangent, strict=True):
        values, every = np.linalg.eigh(matrix.T @ matrix)
        gradient = 0
        for v, dv in zip(kept.T, wanted.T, strict=True):
            own = np.argmax(np.abs(every.T @ v))
            gap = values[own] - values
            gap[own] = np.inf
            w = every @ (every.T @ dv / gap)
            gradient += matrix @ (np.outer(w, v) + np.outer(v, w))
        gradients.append(gradient)
    return np.stack(gradients)


def map_with(values, shape):
    """Makes maps, [B, N, C], of given squares of singular values, and the vectors."""
    rng = np.random.default_rng(0)
    count = len(values)
    u, v = (
        np.linalg.qr(rng.normal(size=(shape[0], size, size)))[0][..., :count]
        for size in shape[1:]
    )
    return u * np.sqrt(values) @ np.swapaxes(v, 1, 2), v


@pytest.mark.parametrize("shape", [(4, 60, 24), (4, 24, 60)], ids=["tall", "wide"])
@pytest.mark.parametrize(
    ("values", "limit"),
    [
        (0.5 ** np.arange(24), 3e-6),
        (np.r_[1, 0.05 * (1 - np.arange(23) / 24) ** 2], 5e-5),
        (np.r_[1, 0.8, 0.6, 0.4, 0.4 * (1 - 1e-3), 0.3 * 0.9 ** np.arange(19)], 3e-4),
        (np.r_[1, 0.8, 0.6, 0.4, 0.4 * (1 - 1e-3 * np.arange(1, 21))], 3e-4),
        (np.r_[1, 0.8, 0.6, 0.4], 3e-6),
    ],
    ids=["steep", "flat", "close", "cluster", "rank 4"],
)
def test_exact_gradient_is_a_sum_over_all_vectors(shape, values, limit):
    """Column by column, and of all: each has systems of its own."""
    x, v = map_with(values, shape)
    cotangent = np.random.default_rng(1).normal(size=(*v.shape[:2], 4))
    gradient = jax.jit(singular_gradients.exact_gradient)
    for columns in ([0], [3], [0, 1, 2, 3]):
        given = np.where(np.isin(np.arange(4), columns), cotangent, 0)
        arrays = [y.astype(np.float32) for y in (x, v[..., :4], given)]
        assert worst(gradient(*arrays), reference(x, v[..., :4], given)) < limit


def test_exact_gradient_is_linear_down_to_the_smallest_numbers():
    """A power of two changes no digit, and nothing asked is nothing given."""
    x, v = map_with(0.7 ** np.arange(6), (3, 12, 6))
    cotangent = np.random.default_rng(1).normal(size=(3, 6, 4))
    cotangent[1] = 0
    cotangent[2, :, 1:] = 0
    gradient = jax.jit(singular_gradients.exact_gradient)
    x, v, cotangent = (y.astype(np.float32) for y in (x, v[..., :4], cotangent))
    expected = np.asarray(gradient(x, v, cotangent))
    assert np.all(expected[1] == 0)
    assert np.all(np.any(expected[[0, 2]], axis=(1, 2)))
    for power in (-80, 80):
        found = np.asarray(gradient(x, v, np.ldexp(cotangent, power)))
        np.testing.assert_array_equal(np.ldexp(found, -power), expected)
    # Columns do not disturb one another.
    alone = np.asarray(gradient(x, v, cotangent * (np.arange(4) == 0)))
    np.testing.assert_allclose(alone[2], expected[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 12, 6), (2, 6, 12)], ids=["tall", "wide"])
@pytest.mark.parametrize(
    "values",
    [np.ones(6), [1, 1, 0.5, 0.5, 0.5, 0.5], [2, 1, 1, 1], [1, 1e-7, 1e-7, 1e-8], [0]],
    ids=["equal", "pairs", "three", "noise", "zeros"],
)
def test_exact_gradient_is_finite_where_vectors_are_not_determined(shape, values):
    """And not above what the rounding of the map can do to the vectors."""
    x, v = map_with(values, shape)
    v = np.pad(v, ((0, 0), (0, 0), (0, 4)))[..., :4].astype(np.float32)
    cotangent = np.random.default_rng(1).normal(size=v.shape).astype(np.float32)
    found = singular_gradients.exact_gradient(x.astype(np.float32), v, cotangent)
    assert np.all(np.isfinite(found))
    assert np.max(np.abs(found)) < 1e7
