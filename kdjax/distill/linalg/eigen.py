"""Eigenvectors of many small Gram matrices at once.

On the CPU the decompositions of `jnp.linalg` are calls into LAPACK that take a thread
of the pool on which the whole program runs, and wait there for others of the same
pool to decompose parts of the batch. A program with several such calls that may run at
the same time, of several feature maps say, can so wait forever. `leading` makes no such
call, and `svd` and `eigh` make none that waits.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

#: Float32 products in full: the TF32 of some accelerators would cost half the digits.
product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

#: What rounding may add to an eigenvalue of a Gram matrix, as a share of the largest
#: and in units of the type's epsilon.
_NOISE = 16

#: A row of length 1 of which a last orthogonalisation leaves less than this, squared,
#: has no direction of its own.
_DEPENDENT = 0.25

#: Jacobi's method takes six to ten sweeps.
_MAX_SWEEPS = 16


def rescale(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Brings the largest response of a map to 1, so that no square over- or underflows.

    Args:
      x: maps, [B, N, C].

    Returns:
      The scaled maps and the divisor, [B, 1, 1].
    """
    scale = jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True)
    scale = jnp.where(scale > jnp.finfo(x.dtype).tiny, scale, 1)
    return x / scale, scale


def gram(x: jax.Array) -> jax.Array:
    """Computes the smaller of X^T X and X X^T, [B, M, M] with M = min(N, C)."""
    transposed = jnp.swapaxes(x, 1, 2)
    if x.shape[1] < x.shape[2]:
        return product(x, transposed)
    return product(transposed, x)


def noise(largest: jax.Array) -> jax.Array:
    """Bounds the rounding errors of eigenvalues, given the largest; never 0."""
    return _NOISE * jnp.finfo(largest.dtype).eps * jnp.maximum(largest, 1)


def svd(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Calls `jnp.linalg.svd` for the thin decomposition of [B, N, C], safely."""
    return _one_by_one(functools.partial(jnp.linalg.svd, full_matrices=False), x)


def eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Calls `jnp.linalg.eigh` for [B, M, M], safely."""
    return _one_by_one(jnp.linalg.eigh, matrix)


def _one_by_one(decompose: Callable[[jax.Array], Any], x: jax.Array) -> Any:
    """Applies a decomposition of `jnp.linalg` so that the CPU cannot come to a halt.

    The CPU gets one matrix at a time, which the calling thread decomposes itself,
    waiting for no other (`ParallelBatchMap` in jaxlib's `lapack_kernels.cc`).
    Accelerators get the batch.
    """
    return jax.lax.platform_dependent(
        x, cpu=functools.partial(jax.lax.map, decompose), default=decompose
    )


def orthonormalize(rows: jax.Array) -> jax.Array:
    """Makes every row orthogonal to those before it, and of length 1.

    Classical Gram-Schmidt with three passes over a row. What the first leaves of a row
    that depends on others up to rounding is rounding itself; the second takes from it
    what is still theirs, and the third the rounding of the second. A row of zeros stays
    one, and a row for which there is no direction left becomes one.

    Source: Giraud, Langou and Rozloznik, "The loss of orthogonality in the Gram-Schmidt
    orthogonalization process" (2005).
    Differs from the original in: two passes there, which are enough for rows that are
    independent.

    Args:
      rows: [B, K, M].

    Returns:
      [B, K, M].
    """
    index = np.arange(rows.shape[1])
    tiny = jnp.finfo(rows.dtype).tiny
    floors = np.asarray([tiny, tiny, _DEPENDENT], rows.dtype)

    # One loop over rows and passes: a loop in a loop would take longer to compile.
    def one_pass(step, rows):
        number, which = step // 3, step % 3
        row = jax.lax.dynamic_slice_in_dim(rows, number, 1, axis=1)
        inner = product(row, jnp.swapaxes(rows, 1, 2))
        row -= product(jnp.where(index < number, inner, 0), rows)
        square = jnp.sum(jnp.square(row), axis=2, keepdims=True)
        floor = jnp.asarray(floors)[which]
        row *= jnp.where(square > floor, jax.lax.rsqrt(jnp.maximum(square, floor)), 0)
        return jax.lax.dynamic_update_slice_in_dim(rows, row, number, axis=1)

    return jax.lax.fori_loop(0, 3 * rows.shape[1], one_pass, rows)


def jacobi(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Decomposes small symmetric matrices completely.

    Jacobi's method: a sweep annihilates every entry off the diagonal once, by rotations
    of K / 2 disjoint pairs of rows and columns at a time, paired like the players of a
    round-robin tournament. Sweeps end when every entry is below epsilon times the root
    of the product of the two eigenvalues, so that small eigenvalues of a graded matrix
    keep their digits.

    Source: Golub and Van Loan, "Matrix Computations", section 8.5; Demmel and Veselic,
    "Jacobi's method is more accurate than QR" (1992), for when to end.

    Args:
      matrix: [B, K, K].

    Returns:
      Eigenvalues, descending, [B, K], and the eigenvectors as rows, [B, K, K].
    """
    size = matrix.shape[-1]
    half = -(-size // 2)
    even = 2 * half
    # The batch last, so that neighbors in memory are treated alike. A row of zeros
    # makes the number even; it is never turned.
    a = jnp.transpose(matrix + jnp.swapaxes(matrix, 1, 2), (1, 2, 0)) / 2
    a = jnp.pad(a, ((0, even - size), (0, even - size), (0, 0)))
    everyone, pair = np.arange(even), np.arange(half)
    eye = np.eye(even, dtype=a.dtype)[..., None]
    elsewhere = 1 - eye - np.roll(eye, half, axis=0)
    # Row i meets row i + half; then all but the first move on by one seat.
    seat = np.concatenate([[0, half], pair[1:-1], pair[1:] + half, pair[1:][-1:]])

    def rotate(_, carry):
        a, vectors = carry
        diagonal = a[everyone, everyone]
        entry = a[pair, pair + half]
        gone = entry == 0
        ratio = (diagonal[half:] - diagonal[:half]) / jnp.where(gone, 1, 2 * entry)
        root = jnp.sqrt(1 + jnp.square(ratio))
        tangent = jnp.where(ratio >= 0, 1, -1) / (jnp.abs(ratio) + root)
        tangent = jnp.where(gone, 0, tangent)
        tangent = jnp.concatenate([tangent, -tangent])
        cosine = jax.lax.rsqrt(1 + jnp.square(tangent))
        # By the rotations alone a small eigenvalue would get the rounding of a large.
        diagonal -= tangent * jnp.concatenate([entry, entry])

        def turn(x, axis):
            c, t = (jnp.expand_dims(y, 1 - axis) for y in (cosine, tangent))
            return c * (x - t * jnp.roll(x, half, axis))

        a = turn(turn(a, 0), 1) * elsewhere + diagonal[:, None] * eye
        return a[seat][:, seat], turn(vectors, 0)[seat]

    def sweep(carry):
        count, *carry = carry
        return count + 1, *jax.lax.fori_loop(0, even - 1, rotate, tuple(carry))

    def unfinished(carry):
        count, a, _ = carry
        root = jnp.sqrt(jnp.abs(a[everyone, everyone]))
        enough = jnp.finfo(a.dtype).eps * root[None] * root[:, None]
        return (count < _MAX_SWEEPS) & jnp.any(jnp.abs(a) * (1 - eye) > enough)

    start = (0, a, jnp.zeros_like(a) + eye)
    _, a, vectors = jax.lax.while_loop(unfinished, sweep, start)
    # After a sweep everyone is back in his seat, the row of zeros in the last.
    values = a[everyone, everyone][:size]
    order = jnp.argsort(-values, axis=0)
    values = jnp.take_along_axis(values, order, axis=0)
    vectors = jnp.take_along_axis(vectors[:size, :size], order[:, None], axis=0)
    return values.T, jnp.transpose(vectors, (2, 0, 1))


def leading(matrix: jax.Array, rank: int) -> jax.Array:
    """Finds the first eigenvectors of positive semidefinite matrices.

    2R + 4 vectors are carried. A round multiplies them by p(A) = A^2 - b A + b^2 / 8,
    the Chebyshev polynomial of [0, b], and makes them orthonormal again. With b the
    least of their Rayleigh quotients, what they leave out is damped and what they have
    grows: an error in one of the first R shrinks by p of the first eigenvalue left out
    over p of that vector's own, which is 1/17 where the ratio of the eigenvalues is
    1/2, and 1/2 where it is 0.9. One round for every four bits of the type gives a
    vector to the last digit at a ratio of 1/2, so the first vector of a map after its
    ReLU always; where the spectrum is flat beyond it, as in an untrained network, the
    fourth may be off by a few hundredths in float32.

    Source: Zhou, Saad, Tiago and Chelikowsky, "Self-consistent-field calculations using
    Chebyshev-filtered subspace iteration" (2006).
    Differs from the original in: the bound b, a value of Rayleigh and Ritz there, which
    takes an eigenproblem in every round.

    Args:
      matrix: [B, M, M].
      rank: R, how many.

    Returns:
      Orthonormal columns by descending eigenvalue, [B, M, R].
    """
    size = matrix.shape[-1]
    width = min(2 * rank + 4, size)
    start = np.linalg.qr(np.random.default_rng(0).normal(size=(size, width)))[0].T
    rows = jnp.broadcast_to(start.astype(matrix.dtype), (len(matrix), width, size))

    # Small eigenvalues survive two products between orthonormalizations, not many more.
    def improve(number, rows):
        image = product(rows, matrix)
        bound = jnp.min(jnp.sum(rows * image, axis=2), axis=1)[:, None, None]
        # Random vectors tell nothing of what they leave out.
        bound = jnp.where(number > 0, jnp.maximum(bound, 0), 0)
        rows = product(image, matrix) - bound * (image - bound / 8 * rows)
        return orthonormalize(rows)

    rounds = 1 + math.ceil(jnp.finfo(matrix.dtype).nmant / 4)
    rows = jax.lax.fori_loop(0, rounds, improve, rows)
    within = product(product(rows, matrix), jnp.swapaxes(rows, 1, 2))
    _, turn = jacobi(within)
    return jnp.swapaxes(product(turn[:, :rank], rows), 1, 2)
