import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.losses.linalg import singular_gradients
from kdjax.losses.linalg.singular_gradients import Decomposed

CASES = ["tall", "tall2", "wide", "near", "square"]
DEGENERATE = ["degen_tall", "degen_wide"]


def worst(found, expected):
    """Returns the largest error in units of the largest entry."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


def decomposed(x, known=None):
    """Decomposes maps in float64; keeps the first `known` eigenvectors."""
    x = np.asarray(x, np.float64)
    transposed = np.swapaxes(x, 1, 2)
    gram = x @ transposed if x.shape[1] < x.shape[2] else transposed @ x
    basis = np.linalg.eigh(gram)[1][..., ::-1][..., :known]
    return Decomposed(x, np.ones((len(x), 1, 1)), gram, basis)


@jax.jit
def gradient(x, scale, gram, basis, vectors, cotangent):
    return singular_gradients.exact_gradient(
        Decomposed(x, scale, gram, basis), vectors, cotangent
    )


@pytest.mark.parametrize("case", CASES + DEGENERATE)
def test_released_rule_matches_reference(golden, case):
    arrays = golden("svd_grad", f"{case}__")
    with jax.enable_x64(True):
        given = [jnp.asarray(arrays[name]) for name in ("U", "s", "V", "dV")]
        found = jax.jit(singular_gradients.released_rule)(*given)
    assert worst(found, arrays["dX_kdtf"]) < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_exact_gradient_matches_reference(golden, case):
    arrays = golden("svd_grad", f"{case}__")
    expected = arrays["dX_exact"]
    with jax.enable_x64(True):
        x = golden("svd_align", f"{case}__")["x"].reshape(expected.shape)
        assert not np.any(arrays["dV"][..., 4:])
        given = arrays["V"][..., :4], arrays["dV"][..., :4]
        found = gradient(*decomposed(x), *given)
    assert worst(found, expected) < 1e-9


def reference(x, vectors, cotangent):
    """Sums over all singular vectors, in NumPy."""
    x, vectors, cotangent = (np.asarray(y, np.float64) for y in (x, vectors, cotangent))
    gradients = []
    for matrix, kept, wanted in zip(x, vectors, cotangent, strict=True):
        values, every = np.linalg.eigh(matrix.T @ matrix)
        total = 0
        for v, dv in zip(kept.T, wanted.T, strict=True):
            own = np.argmax(np.abs(every.T @ v))
            gap = values[own] - values
            gap[own] = np.inf
            w = every @ (every.T @ dv / gap)
            total += matrix @ (np.outer(w, v) + np.outer(v, w))
        gradients.append(total)
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


def float32(*arrays):
    return [np.asarray(array, np.float32) for array in arrays]


@pytest.mark.parametrize("shape", [(4, 60, 24), (4, 24, 60)], ids=["tall", "wide"])
def test_exact_gradient_is_a_sum_over_all_vectors(shape):
    """Column by column, and of all: each has systems of its own."""
    spectra = {
        "steep": (0.5 ** np.arange(24), 3e-6),
        "flat": (np.r_[1, 0.05 * (1 - np.arange(23) / 24) ** 2], 5e-5),
        "close": (
            np.r_[1, 0.8, 0.6, 0.4, 0.4 * (1 - 1e-3), 0.3 * 0.9 ** np.arange(19)],
            3e-4,
        ),
        "rank 4": (np.r_[1, 0.8, 0.6, 0.4], 3e-6),
    }
    for name, (values, limit) in spectra.items():
        x, v = map_with(values, shape)
        cotangent = np.random.default_rng(1).normal(size=(*v.shape[:2], 4))
        known = float32(*decomposed(x, 10))
        for columns in ([0], [3], [0, 1, 2, 3]):
            given = np.where(np.isin(np.arange(4), columns), cotangent, 0)
            found = gradient(*known, *float32(v[..., :4], given))
            assert worst(found, reference(x, v[..., :4], given)) < limit, name


def test_exact_gradient_of_a_cluster_is_damped():
    """Twenty eigenvalues within two percent of the fourth, more than are known."""
    values = np.r_[1, 0.8, 0.6, 0.4, 0.4 * (1 - 1e-3 * np.arange(1, 21))]
    x, v = map_with(values, (4, 60, 24))
    cotangent = np.random.default_rng(1).normal(size=(*v.shape[:2], 4))
    known = float32(*decomposed(x, 10))
    found = gradient(*known, *float32(v[..., :4], cotangent))
    expected = reference(x, v[..., :4], cotangent)
    assert np.linalg.norm(found) < 1.01 * np.linalg.norm(expected)
    first = np.where(np.arange(4) < 3, cotangent, 0)
    found = gradient(*known, *float32(v[..., :4], first))
    assert worst(found, reference(x, v[..., :4], first)) < 3e-4


def test_exact_gradient_is_linear_down_to_the_smallest_numbers():
    """A power of two changes no digit, and a cotangent of zero has no gradient."""
    x, v = map_with(0.7 ** np.arange(12), (3, 24, 12))
    cotangent = np.random.default_rng(1).normal(size=(3, 12, 4))
    cotangent[1] = 0
    cotangent[2, :, 1:] = 0
    known = float32(*decomposed(x, 10))
    v, cotangent = float32(v[..., :4], cotangent)
    expected = np.asarray(gradient(*known, v, cotangent))
    assert np.all(expected[1] == 0)
    assert np.all(np.any(expected[[0, 2]], axis=(1, 2)))
    for power in (-80, 80):
        found = np.asarray(gradient(*known, v, np.ldexp(cotangent, power)))
        np.testing.assert_array_equal(np.ldexp(found, -power), expected)
    # Columns do not disturb one another.
    alone = np.asarray(gradient(*known, v, cotangent * (np.arange(4) == 0)))
    np.testing.assert_allclose(alone[2], expected[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 12, 16), (2, 16, 12)], ids=["wide", "tall"])
def test_exact_gradient_is_finite_where_vectors_are_not_determined(shape):
    """And not above what the rounding of the map can do to the vectors."""
    spectra = [
        np.ones(12),
        np.ones(6),
        [1, 1, 0.5, 0.5, 0.5, 0.5],
        [2, 1, 1, 1],
        [1, 1e-7, 1e-7, 1e-8],
        [0],
    ]
    for values in spectra:
        x, _ = map_with(values, shape)
        known = decomposed(x, 10)
        v = known.basis[..., :4]
        if shape[1] < shape[2]:
            v = np.swapaxes(x, 1, 2) @ v
        length = np.linalg.norm(x @ v if shape[1] > shape[2] else v, axis=1)
        length = length[:, None]
        exists = length > 1e-3
        norm = np.linalg.norm(v, axis=1, keepdims=True)
        v = np.where(exists, v / np.where(exists, norm, 1), 0)
        cotangent = np.random.default_rng(1).normal(size=v.shape)
        found = gradient(*float32(*known), *float32(v, cotangent))
        assert np.all(np.isfinite(found))
        assert np.max(np.abs(found)) < 1e7


def test_exact_gradient_is_finite_for_vectors_that_are_not_the_first():
    """As of a flat spectrum, where an eigenvalue left out may exceed a known one."""
    x = np.diag(np.sqrt(np.arange(16.0, 0, -1)))[None]
    vectors = np.eye(16)[None, :, 2:6]
    known = decomposed(x)._replace(basis=np.eye(16)[None, :, 2:12])
    given = float32(*known, vectors, np.ones_like(vectors))
    assert np.all(np.isfinite(gradient(*given)))
