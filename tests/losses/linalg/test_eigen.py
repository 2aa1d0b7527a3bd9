import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.losses.linalg import eigen


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


def test_orthonormalize_keeps_the_span_of_the_first_rows():
    rng = np.random.default_rng(0)
    conditions = (1.0, 1e1, 1e2)
    groups = [
        np.stack(
            [
                (orthogonal(rng, count, count) * np.geomspace(1, 1 / condition, count))
                @ orthogonal(rng, count, size).T
                for condition in conditions
            ]
        ).astype(np.float32)
        for count, size in ((10, 64), (10, 40), (5, 5), (1, 3))
    ]
    found = jax.jit(eigen.orthonormalize)(groups)
    twice = jax.jit(eigen.orthonormalize)(found)
    for rows, once, result in zip(groups, found, twice, strict=True):
        assert off_unit(result) < 2e-6
        for image, condition in enumerate(conditions):
            assert off_unit(once[image : image + 1]) < 1e-6 * condition**2
            for number in range(1, rows.shape[1] + 1):
                given = rows[image, :number].astype(np.float64).T
                basis = np.linalg.qr(given)[0]
                own = np.asarray(once[image, :number], np.float64).T
                outside = own - basis @ (basis.T @ own)
                assert np.max(np.abs(outside)) < 2e-6 * condition**2


def test_orthonormalize_leaves_dependent_rows_finite():
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(2, 6, 10))
    kinds = np.concatenate(
        [
            0 * plain,
            plain * (np.arange(6) % 2)[:, None],
            plain[:, :1] + 0 * plain,
            plain[:, :1] + 1e-8 * plain,
            np.where(np.arange(10) < 2, plain, 0) * 1e-15,
            plain[:, :, :3] @ plain[:, :3] * 1e15,
        ]
    ).astype(np.float32)
    (found,) = eigen.orthonormalize([kinds])
    length = np.linalg.norm(found, axis=2)
    assert np.all(length < 1.001)
    np.testing.assert_allclose(length[:, 0], np.any(kinds[:, 0], axis=1), atol=1e-6)
    np.testing.assert_array_equal(found[:2], 0)


def symmetric_matrices(size):
    rng = np.random.default_rng(size)
    plain = rng.normal(size=(16, size, size))
    plain += np.swapaxes(plain, 1, 2)
    clusters = rng.integers(0, 3, size=size) + 1e-5 * rng.normal(size=size)
    return {
        "random": plain,
        "zeros": 0 * plain[:4],
        "equal": 3 * np.eye(size) + 0 * plain[:4],
        "diagonal": np.eye(size) * plain,
        "clusters": with_spectrum(clusters)[0],
        "one": with_spectrum(np.arange(size) == 0)[0],
        "tiny": plain * 1e-18,
        "huge": plain * 1e18,
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 5, 10])
def test_jacobi_is_eigh(size, dtype):
    eps = np.finfo(dtype).eps
    matrices = symmetric_matrices(size)
    with jax.enable_x64(dtype == "float64"):
        together = jnp.asarray(np.concatenate(list(matrices.values())), dtype)
        values, rows = (
            np.asarray(x, np.float64) for x in jax.jit(eigen.jacobi)(together)
        )
    matrix = np.asarray(together, np.float64)
    expected = np.linalg.eigvalsh(matrix)[:, ::-1]
    norm = np.maximum(np.max(np.abs(expected), axis=1), np.finfo(dtype).tiny)
    assert np.max(np.abs(values - expected) / norm[:, None]) < 20 * eps
    assert off_unit(rows) < 40 * eps
    again = np.einsum("bki,bk,bkj->bij", rows, values, rows)
    assert np.max(np.abs(again - matrix) / norm[:, None, None]) < 40 * eps
    assert np.all(np.diff(values, axis=1) <= 0)


#: Eigenvalues, the size of the matrix, and how far the first four vectors may be off in
#: float32, as sines.
SPECTRA = {
    "halves": (2.0 ** -np.arange(20), 40, 4 * [1e-6]),
    # A twentieth apart, to the end.
    "slow": (0.95 ** np.arange(64), 64, [1e-3, 1e-3, 2e-3, 2e-3]),
    # As of a map after its ReLU in an untrained network.
    "flat": (
        np.r_[1, 0.05 * (1 - np.arange(63) / 64) ** 2],
        64,
        [1e-6, 1e-3, 1e-2, 2e-2],
    ),
    # As of the map of a mean and few directions, some weak.
    "dominated": (np.r_[100, 1, 0.5, 0.1, 0.03 * 0.9 ** np.arange(60)], 64, 4 * [3e-4]),
    # The rounding of the matrix itself is 6e-4 of the second eigenvalue.
    "overwhelmed": (
        np.r_[1e4, 1, 0.7, 0.5, 0.3 * 0.9 ** np.arange(60)],
        64,
        [1e-6, 1e-3, 2e-3, 2e-3],
    ),
    "rank 5": (np.r_[1, 0.8, 0.6, 0.4, 0.2], 64, 4 * [2e-6]),
    "rank 4": (np.r_[1, 0.8, 0.6, 0.4], 64, 4 * [2e-6]),
    "small": (2.0 ** -np.arange(5), 5, 4 * [3e-6]),
}


def sines(found, vectors, rank):
    """Returns the largest sine between found and expected vectors, by number."""
    found = np.asarray(found, np.float64)[..., :rank]
    vectors = vectors[..., :rank]
    vectors = vectors * np.sign(np.sum(found * vectors, axis=1, keepdims=True))
    return np.max(np.linalg.norm(found - vectors, axis=1), axis=0)


def test_leading_vectors():
    matrices, vectors = zip(
        *(
            with_spectrum(values, images=16, size=size)
            for values, size, _ in SPECTRA.values()
        ),
        strict=True,
    )
    matrices = [matrix.astype(np.float32) for matrix in matrices]
    found = jax.jit(functools.partial(eigen.leading, rank=4))(matrices)
    for name, columns, expected in zip(SPECTRA, found, vectors, strict=True):
        size, limits = SPECTRA[name][1:]
        assert columns.shape == (16, size, min(10, size))
        assert columns.dtype == np.float32
        assert np.all(sines(columns, expected, 4) < limits), name
        assert off_unit(np.swapaxes(columns, 1, 2)) < 2e-6


def test_leading_vectors_of_float64():
    matrix, vectors = with_spectrum(SPECTRA["halves"][0], size=40)
    with jax.enable_x64(True):
        (found,) = jax.jit(functools.partial(eigen.leading, rank=3))([matrix])
    assert found.dtype == np.float64
    assert np.all(sines(found, vectors, 3) < 1e-13)


def test_leading_vectors_do_not_depend_on_what_is_decomposed_with_them():
    matrices = [with_spectrum(0.8 ** np.arange(n), images=2)[0] for n in (6, 9, 9)]
    matrices = [matrix.astype(np.float32) for matrix in matrices]
    together = eigen.leading(matrices, 1)
    for matrix, expected in zip(matrices, together, strict=True):
        (alone,) = eigen.leading([matrix], 1)
        np.testing.assert_allclose(np.abs(alone), np.abs(expected), atol=2e-6)


def test_decompositions_one_by_one_are_those_of_the_batch():
    x = jax.random.normal(jax.random.key(0), (3, 5, 4))
    for found, expected in zip(
        jax.jit(eigen.svd)(x), jnp.linalg.svd(x, full_matrices=False), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    square, _ = eigen.gram(x)
    for found, expected in zip(
        jax.jit(eigen.eigh)(square), jnp.linalg.eigh(square), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        jax.jit(eigen.singular_values)(x),
        jnp.linalg.svd(x, compute_uv=False),
        rtol=1e-5,
    )


def test_nothing_else_decomposes_batches():
    """Calls of `jnp.linalg.svd` and the like for a batch may deadlock on the CPU."""
    root = pathlib.Path(eigen.__file__).parents[3]
    pattern = re.compile(
        r"(?<![\w`])(?:jnp|lax)\.linalg\.(svd|eigh|eig|qr|cholesky|inv)"
    )
    calls = {
        path.relative_to(root).as_posix()
        for folder in ("kdjax", "experiments")
        for path in (root / folder).rglob("*.py")
        if pattern.search(path.read_text(encoding="utf-8"))
    }
    assert calls == {"kdjax/losses/linalg/eigen.py"}
