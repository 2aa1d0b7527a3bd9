"""Leading eigenvectors of many small Gram matrices at once.

`leading` is made of batched matrix products and of arithmetic on K x K matrices that is
written out, so that it fuses: a GPU gets few kernels, and no loop whose end depends on
data, for which the host would have to wait.

On the CPU the decompositions of `jnp.linalg` are calls into LAPACK that take a thread
of the pool on which the program runs, and wait there for others of the same pool to
decompose parts of the batch. A program with several such calls that may run at the same
time, of several feature maps for example, can wait forever. `leading` makes no such
call, and `svd` and `eigh` make none that waits.
"""

import collections
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

#: Float32 products in full: the TF32 of some accelerators would cost half the digits.
product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

#: Rounding error of an eigenvalue of a Gram matrix, relative to the largest and in
#: units of the type's epsilon.
_NOISE = 16

#: Vectors carried by `leading` beyond twice the number asked for.
_EXTRA = 2

#: Degrees of the polynomials of `leading`: one round a number.
_DEGREES = {jnp.dtype("float32"): (1, 1, 4, 4, 3)}
_DEGREES[jnp.dtype("float64")] = (1, 1) + (4,) * 7

#: Eigenvalue, in units of the filter's bound, up to which a polynomial of degree 4 does
#: not swamp what is orthogonal to the eigenvector: it is 1e5 there.
_RANGE = 5.8

#: Sweeps of `jacobi`, which converges quadratically.
_SWEEPS = {jnp.dtype("float32"): 5, jnp.dtype("float64"): 7}


def scale_of(x: jax.Array) -> jax.Array:
    """Returns the largest response of each map [B, N, C], or 1 for zeros, [B, 1, 1]."""
    scale = jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True)
    return jnp.where(scale > jnp.finfo(x.dtype).tiny, scale, 1)


def gram(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes the smaller of X^T X and X X^T for maps divided by a scale.

    The small matrices are divided, not the maps: these are many megabytes. Responses of
    float32 may thus be from 1e-17 to 1e17.

    Args:
      x: maps, [B, N, C].

    Returns:
      [B, M, M] with M = min(N, C), whose largest entry is 1, or 0 for zeros; and the
      scale, the largest norm of a column, or of a row where N < C, or 1 for zeros,
      [B, 1, 1].
    """
    pair = x, jnp.swapaxes(x, 1, 2)
    if x.shape[1] >= x.shape[2]:
        pair = pair[::-1]
    whole = product(*pair)
    # Of a positive semidefinite matrix, the largest entry is on the diagonal.
    largest = jnp.max(whole, axis=(1, 2), keepdims=True)
    scale = jnp.sqrt(jnp.where(largest > jnp.finfo(x.dtype).tiny, largest, 1))
    return whole / scale / scale, scale


def quotients(matrix: jax.Array, vectors: jax.Array) -> jax.Array:
    """Returns the Rayleigh quotients of unit columns [B, M, K], [B, 1, K]."""
    return jnp.sum(vectors * product(matrix, vectors), axis=1, keepdims=True)


def noise(largest: jax.Array) -> jax.Array:
    """Bounds the rounding errors of eigenvalues, given the largest; never 0."""
    return _NOISE * jnp.finfo(largest.dtype).eps * jnp.maximum(largest, 1)


def svd(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Calls `jnp.linalg.svd` for the thin decomposition of [B, N, C], safely."""
    return _one_by_one(functools.partial(jnp.linalg.svd, full_matrices=False), x)


def singular_values(x: jax.Array) -> jax.Array:
    """Calls `jnp.linalg.svd` for the values of [B, N, C] alone, safely."""
    return _one_by_one(functools.partial(jnp.linalg.svd, compute_uv=False), x)


def eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Calls `jnp.linalg.eigh` for [B, M, M], safely."""
    return _one_by_one(jnp.linalg.eigh, matrix)


def _one_by_one(decompose: Callable[[jax.Array], Any], x: jax.Array) -> Any:
    """Applies a decomposition of `jnp.linalg` so that the CPU does not deadlock.

    The CPU gets one matrix at a time, which the calling thread decomposes itself,
    waiting for no other (`ParallelBatchMap` in jaxlib's `lapack_kernels.cc`).
    Accelerators get the batch.
    """
    return jax.lax.platform_dependent(
        x, cpu=functools.partial(jax.lax.map, decompose), default=decompose
    )


def orthonormalize(groups: Sequence[jax.Array]) -> list[jax.Array]:
    """Makes each row orthogonal to the rows before it, and of length 1.

    The rows are multiplied from the left by the inverse of a factor of their K x K Gram
    matrix. The result is orthogonal up to rounding times the condition number of the
    rows scaled to length 1. Of rows that depend on those before them, only noise is
    left, and rows of zeros stay zero.

    Args:
      groups: [B, K, M] each; small matrices of equal K are factorized at once.

    Returns:
      [B, K, M] each.
    """
    largest = [jnp.max(jnp.abs(rows), 2, keepdims=True) for rows in groups]
    tiny = jnp.finfo(groups[0].dtype).tiny
    scaled = [
        rows / jnp.where(size > tiny, size, 1)
        for rows, size in zip(groups, largest, strict=True)
    ]
    within = [product(rows, jnp.swapaxes(rows, 1, 2)) for rows in scaled]
    inverses = _at_once(functools.partial(map, _inverse_factor), within)
    return [product(*pair) for pair in zip(inverses, scaled, strict=True)]


def _inverse_factor(matrix: jax.Array) -> jax.Array:
    """Computes L^-1 for L L^T = matrix, positive semidefinite, [B, K, K].

    Source: Golub and Van Loan, "Matrix Computations", section 4.1, LDL^T.
    Differs from the original in: a pivot within rounding of zero eliminates nothing.
    """
    size = matrix.shape[-1]
    eye = np.eye(size, dtype=matrix.dtype)[None]
    diagonal = jnp.sum(matrix * eye, axis=2, keepdims=True)
    limits = jnp.finfo(matrix.dtype)
    floor = jnp.maximum(8 * limits.eps * diagonal, limits.tiny)
    # The inverse grows to the right of the matrix that is eliminated.
    both = jnp.concatenate([matrix, jnp.broadcast_to(eye, matrix.shape)], axis=2)
    for k in range(size - 1):
        pivot = both[:, k : k + 1, k : k + 1]
        inverse = jnp.where(pivot > floor[:, k : k + 1], 1 / pivot, 0)
        factor = jnp.where(np.arange(size)[None, :, None] > k, both[:, :, k : k + 1], 0)
        both -= factor * inverse * both[:, k : k + 1]
    pivots = jnp.sum(both[..., :size] * eye, axis=2, keepdims=True)
    return both[..., size:] * jax.lax.rsqrt(jnp.maximum(pivots, floor))


def jacobi(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Decomposes small symmetric matrices completely.

    Jacobi's method: a sweep annihilates every entry off the diagonal once, by rotations
    of K / 2 disjoint pairs of rows and columns at a time, paired like the players of a
    round-robin tournament. The number of sweeps is fixed.

    Source: Golub and Van Loan, "Matrix Computations", section 8.5.

    Args:
      matrix: [B, K, K].

    Returns:
      Eigenvalues, descending, [B, K], and the eigenvectors as rows, [B, K, K].
    """
    size = matrix.shape[-1]
    half = -(-size // 2)
    even = 2 * half
    # The batch is the last axis, contiguous in memory. A row of zeros, which is never
    # rotated, makes the number even.
    a = jnp.transpose(matrix + jnp.swapaxes(matrix, 1, 2), (1, 2, 0)) / 2
    a = jnp.pad(a, ((0, even - size), (0, even - size), (0, 0)))
    everyone, pair = np.arange(even), np.arange(half)
    eye = np.eye(even, dtype=a.dtype)[..., None]
    elsewhere = 1 - eye - np.roll(eye, half, axis=0)
    # Row i meets row i + half; then all but the first move on by one seat.
    seat = np.concatenate([[0, half], pair[1:-1], pair[1:] + half, pair[1:][-1:]])

    def rotate(a, vectors):
        diagonal = a[everyone, everyone]
        entry = a[pair, pair + half]
        tangent = _tangent(diagonal[:half], diagonal[half:], entry)
        tangent = jnp.concatenate([tangent, -tangent])
        cosine = jax.lax.rsqrt(1 + jnp.square(tangent))
        # By the rotations alone a small eigenvalue would get the rounding of a large.
        diagonal -= tangent * jnp.concatenate([entry, entry])

        def turn(x, axis):
            c, t = (jnp.expand_dims(y, 1 - axis) for y in (cosine, tangent))
            return c * (x - t * jnp.roll(x, half, axis))

        a = turn(turn(a, 0), 1) * elsewhere + diagonal[:, None] * eye
        return a[seat][:, seat], turn(vectors, 0)[seat]

    def sweep(_, carry):
        for _ in range(even - 1):
            carry = rotate(*carry)
        return carry

    start = a, jnp.zeros_like(a) + eye
    a, vectors = jax.lax.fori_loop(0, _SWEEPS[a.dtype], sweep, start)
    # A sweep restores the original order; the padding row is last.
    values = a[everyone, everyone][:size]
    order = jnp.argsort(-values, axis=0)
    values = jnp.take_along_axis(values, order, axis=0)
    vectors = jnp.take_along_axis(vectors[:size, :size], order[:, None], axis=0)
    return values.T, jnp.transpose(vectors, (2, 0, 1))


def _tangent(first: jax.Array, second: jax.Array, entry: jax.Array) -> jax.Array:
    """Returns the tangent of the smaller angle that diagonalizes a 2 x 2 matrix."""
    zero = entry == 0
    ratio = (second - first) / jnp.where(zero, 1, 2 * entry)
    root = jnp.sqrt(1 + jnp.square(ratio))
    tangent = jnp.where(ratio >= 0, 1, -1) / (jnp.abs(ratio) + root)
    return jnp.where(zero, 0, tangent)


def leading(matrices: Sequence[jax.Array], rank: int) -> list[jax.Array]:
    """Finds the first eigenvectors of positive semidefinite matrices.

    Chebyshev-filtered subspace iteration with K = 2R + 2 vectors, then the method of
    Rayleigh and Ritz. Two rounds multiply the vectors by the matrix A; the others by
    the Chebyshev polynomial T(2 A / b - 1) of degree 4, with b the least Rayleigh
    quotient of the K vectors, which damps the eigenvectors that are not carried and
    amplifies the others. Every round ends with `orthonormalize`. In 13 products with A
    an error in one of the first R vectors shrinks by 1e-7 where the first eigenvalue
    not carried is half that vector's own, and by 1e-3 where it is 0.8 of it.

    Where an eigenvalue is above 6 b, as the first of a map after its ReLU, later
    vectors are kept orthogonal to its vector within the polynomial: else it would swamp
    them in float32.

    Source: Zhou, Saad, Tiago and Chelikowsky, "Self-consistent-field calculations using
    Chebyshev-filtered subspace iteration" (2006).
    Differs from the original in: the bound b, a value of Rayleigh and Ritz there, which
    takes an eigenproblem a round; large eigenvalues are deflated; the number of rounds
    is fixed.

    Args:
      matrices: [B, M, M] each, of any B and M. Those of equal M are decomposed at once.
      rank: R, the number of vectors asked for.

    Returns:
      For each, orthonormal columns by descending eigenvalue, [B, M, min(K, M)]; those
      after the first R are approximations.
    """
    count = 2 * rank + _EXTRA
    return _at_once(lambda groups: _first_vectors(groups, count), matrices)


def _at_once(
    function: Callable[[Sequence[jax.Array]], Iterable[jax.Array]],
    arrays: Sequence[jax.Array],
) -> list[jax.Array]:
    """Applies a function to arrays [B, ...] concatenated by their inner shape.

    Args:
      function: takes one array for each inner shape and returns as many, whose first
        axes are as long.
      arrays: any number of them.

    Returns:
      The parts of the results that belong to each array.
    """
    by_shape = collections.defaultdict(list)
    for index, array in enumerate(arrays):
        by_shape[array.shape[1:]].append(index)
    groups = [
        jnp.concatenate([arrays[i] for i in indices]) for indices in by_shape.values()
    ]
    found = {}
    for indices, result in zip(by_shape.values(), function(groups), strict=True):
        ends = np.cumsum([len(arrays[i]) for i in indices])[:-1]
        found |= dict(zip(indices, jnp.split(result, ends), strict=True))
    return [found[index] for index in range(len(arrays))]


def _first_vectors(groups: Sequence[jax.Array], count: int) -> list[jax.Array]:
    """Finds `count` columns, or M if that is less, for each group of [B, M, M]."""
    dtype = groups[0].dtype
    bases = []
    for matrix in groups:
        size = matrix.shape[-1]
        random = np.random.default_rng(0).normal(size=(size, min(count, size)))
        start = np.linalg.qr(random)[0].T.astype(dtype)
        bases.append(jnp.broadcast_to(start, (len(matrix), *start.shape)))
    for degree in _DEGREES[dtype]:
        bases = orthonormalize(
            [
                _filter(rows, matrix, degree)
                for rows, matrix in zip(bases, groups, strict=True)
            ]
        )
    # Orthogonal to rounding, for the method of Rayleigh and Ritz.
    bases = orthonormalize(bases)
    within = [
        product(product(rows, matrix), jnp.swapaxes(rows, 1, 2))
        for rows, matrix in zip(bases, groups, strict=True)
    ]
    turns = _at_once(lambda small: [jacobi(x)[1] for x in small], within)
    return [
        jnp.swapaxes(product(*pair), 1, 2) for pair in zip(turns, bases, strict=True)
    ]


def _filter(rows: jax.Array, matrix: jax.Array, degree: int) -> jax.Array:
    """Multiplies rows by the matrix, or by a Chebyshev polynomial of it."""
    image = product(rows, matrix)
    if degree == 1:
        return image
    quotient = jnp.sum(rows * image, axis=2, keepdims=True)
    limits = jnp.finfo(rows.dtype)
    noise = 4 * limits.eps * jnp.max(quotient, axis=1, keepdims=True)
    least = jnp.min(quotient, axis=1, keepdims=True)
    least = jnp.maximum(least, jnp.maximum(noise, limits.tiny))
    # Below the diagonal: what later rows must not contain.
    count = rows.shape[1]
    swamps = jnp.swapaxes(quotient > _RANGE * least, 1, 2)
    swamps &= np.tri(count, k=-1, dtype=bool)[None]
    bound = jnp.maximum(least, quotient / _RANGE)

    def deflate(image):
        inner = product(image, jnp.swapaxes(rows, 1, 2))
        return image - product(jnp.where(swamps, inner, 0), rows)

    before, found = rows, 2 / bound * deflate(image) - rows
    for _ in range(degree - 1):
        image = deflate(product(found, matrix))
        before, found = found, 2 * (2 / bound * image - found) - before
    return found
