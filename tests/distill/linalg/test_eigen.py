import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill.linalg import eigen


def orthogonal(rng, count, size):
    return np.linalg.qr(rng.normal(size=(size, size)))[0][:, :count]


def with_spectrum(values, *, images=4, size=None):
    """Makes positive semidefinite matrices, [B, M, M], and their eigenvectors."""
    rng = np.random.default_rng(len(values))
    vectors = [orthogonal(rng, len(values), size or len(values)) for _ in range(images)]
    vectors = np.stack(vectors)
    return (vectors * np.asarray(values)) @ np.swapaxes(vectors, 1, 2), vectors


def off_unit(rows):
    """Returns how far the products of all rows are from those of unit vectors."""
    rows = np.asarray(rows, np.float64)
    return np.max(np.abs(rows @ np.swapaxes(rows, 1, 2) - np.eye(rows.shape[1])))


@pytest.mark.parametrize("condition", [1, 1e3, 1e5, 1e7])
@pytest.mark.parametrize(("count", "size"), [(12, 64), (6, 40), (5, 5), (1, 3)])
def test_orthonormalize(count, size, condition):
    rng = np.random.default_rng(0)
    values = np.geomspace(1, 1 / condition, count)
    rows = np.stack(
        [
            (orthogonal(rng, count, count) * values) @ orthogonal(rng, count, size).T
            for _ in range(4)
        ]
    ).astype(np.float32)
    found = np.asarray(jax.jit(eigen.orthonormalize)(rows), np.float64)
    assert off_unit(found) < 2e-6
    # The span of as many rows as are left is theirs, up to the rounding of the rows.
    for number in range(1, count + 1):
        basis = np.linalg.qr(np.swapaxes(rows[:, :number].astype(np.float64), 1, 2))[0]
        ours = np.swapaxes(found[:, :number], 1, 2)
        outside = ours - basis @ (np.swapaxes(basis, 1, 2) @ ours)
        assert np.max(np.abs(outside)) < 4e-7 * condition


def dependent_rows():
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(2, 6, 10))
    thin = np.where(np.arange(10) < 2, plain, 0)
    return {
        "zeros": 0 * plain,
        "some zeros": plain * (np.arange(6) % 2)[:, None],
        "equal": plain[:, :1] + 0 * plain,
        "two channels": thin,
        "almost equal": plain[:, :1] + 1e-8 * plain,
        "almost two channels": thin + 1e-7 * plain,
        "two channels, tiny": thin * 1e-15,
        "rank 3": plain[:, :, :3] @ plain[:, :3],
    }


@pytest.mark.parametrize("kind", dependent_rows())
def test_rows_that_depend_on_others_are_orthogonal_or_zero(kind):
    rows = dependent_rows()[kind].astype(np.float32)
    found = np.asarray(eigen.orthonormalize(rows))
    length = np.linalg.norm(found, axis=2)
    np.testing.assert_allclose(length[length > 0], 1, rtol=1e-6)
    inner = found @ np.swapaxes(found, 1, 2)
    np.testing.assert_allclose(inner, np.eye(6) * (length > 0)[:, None], atol=2e-6)
    np.testing.assert_array_equal(length[:, 0] > 0, np.any(rows[:, 0], axis=1))
    if "two channels" in kind and "almost" not in kind:
        np.testing.assert_array_equal(np.sum(length > 0, axis=1), 2)


def symmetric_matrices(size):
    rng = np.random.default_rng(size)
    plain = rng.normal(size=(16, size, size))
    plain += np.swapaxes(plain, 1, 2)
    clusters = rng.integers(0, 3, size=size) + 1e-5 * rng.normal(size=size)
    return {
        "random": plain,
        "zeros": 0 * plain,
        "equal": 3 * np.eye(size) + 0 * plain,
        "diagonal": np.eye(size) * plain,
        "clusters": with_spectrum(clusters)[0],
        "one": with_spectrum(np.arange(size) == 0)[0],
        "tiny": plain * 1e-30,
        "huge": plain * 1e30,
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 2, 5, 6, 12])
def test_jacobi_is_eigh(size, dtype):
    decompose = jax.jit(eigen.jacobi)
    eps = np.finfo(dtype).eps
    with jax.enable_x64(dtype == "float64"):
        for kind, matrix in symmetric_matrices(size).items():
            matrix = matrix.astype(dtype)
            values, rows = (np.asarray(x, np.float64) for x in decompose(matrix))
            matrix = matrix.astype(np.float64)
            expected = np.linalg.eigvalsh(matrix)[:, ::-1]
            norm = np.maximum(np.max(np.abs(expected)), np.finfo(dtype).tiny)
            error = np.max(np.abs(values - expected)) / norm
            assert error < 20 * eps, kind
            assert off_unit(rows) < 40 * eps, kind
            again = np.einsum("bki,bk,bkj->bij", rows, values, rows)
            assert np.max(np.abs(again - matrix)) / norm < 40 * eps, kind
            assert np.all(np.diff(values, axis=1) <= 0), kind


@pytest.mark.parametrize("order", ["descending", "ascending", "mixed"])
def test_jacobi_keeps_the_digits_of_small_eigenvalues(order):
    """Which a decomposition with a tridiagonal matrix loses, see the last line."""
    rng = np.random.default_rng(0)
    grades = 10.0 ** (-np.arange(12) / 2)
    grades = {
        "descending": grades,
        "ascending": grades[::-1],
        "mixed": rng.permutation(grades),
    }[order]
    core = rng.normal(size=(8, 12, 36))
    core = core @ np.swapaxes(core, 1, 2) / 36
    matrix = (core * grades[:, None] * grades).astype(np.float32)
    expected = np.linalg.eigvalsh(matrix.astype(np.float64))[:, ::-1]
    assert np.min(expected) / np.max(expected) < 1e-10
    np.testing.assert_allclose(jax.jit(eigen.jacobi)(matrix)[0], expected, rtol=3e-5)
    if order != "descending":
        lost = jnp.linalg.eigvalsh(matrix)[:, ::-1]
        assert np.max(np.abs(lost / expected - 1)) > 1


def angles(matrix, vectors, rank):
    """Returns the largest sine between found and expected vectors, by number."""
    found = jax.jit(eigen.leading, static_argnums=1)(matrix, rank)
    assert found.shape == (*matrix.shape[:2], rank)
    assert found.dtype == matrix.dtype
    found = np.asarray(found, np.float64)
    vectors = vectors[..., :rank]
    vectors = vectors * np.sign(np.sum(found * vectors, axis=1, keepdims=True))
    return np.max(np.linalg.norm(found - vectors, axis=1), axis=0)


@pytest.mark.parametrize(
    ("dtype", "limit"), [("float32", 3e-6), ("float64", 1e-14)], ids=str
)
@pytest.mark.parametrize("size", [5, 40])
def test_leading_vectors_are_found_to_the_last_digit(size, dtype, limit):
    """Each eigenvalue half of the one before."""
    matrix, vectors = with_spectrum(2.0 ** -np.arange(min(size, 20)), size=size)
    with jax.enable_x64(dtype == "float64"):
        assert np.all(angles(matrix.astype(dtype), vectors, 3) < limit)


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        # A twentieth apart, to the end.
        (0.95 ** np.arange(64), [1e-3, 1e-3, 2e-3, 2e-3]),
        # As of a map after its ReLU in an untrained network.
        (np.r_[1, 0.05 * (1 - np.arange(63) / 64) ** 2], [1e-6, 1e-3, 1e-2, 2e-2]),
        # As of the map of a mean and few directions, some weak.
        (np.r_[100, 1, 0.5, 0.1, 0.03 * 0.9 ** np.arange(60)], 4 * [3e-4]),
        # A small matrix in a large space.
        (np.r_[1, 0.8, 0.6, 0.4, 0.2, np.zeros(59)], 4 * [2e-6]),
        (np.r_[1, 0.8, 0.6, 0.4, np.zeros(60)], 4 * [2e-6]),
    ],
    ids=["slow", "flat", "dominated", "rank 5", "rank 4"],
)
def test_leading_vectors_of_difficult_spectra(values, limits):
    matrix, vectors = with_spectrum(values, images=16)
    assert np.all(angles(matrix.astype(np.float32), vectors, 4) < limits)


def test_decompositions_one_by_one_are_those_of_the_batch():
    x = jax.random.normal(jax.random.key(0), (3, 5, 4))
    for found, expected in zip(
        jax.jit(eigen.svd)(x), jnp.linalg.svd(x, full_matrices=False), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    square = eigen.gram(x)
    for found, expected in zip(
        jax.jit(eigen.eigh)(square), jnp.linalg.eigh(square), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
