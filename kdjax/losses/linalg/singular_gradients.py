"""Gradients of the first right singular vectors of feature maps.

A rule has the form `(decomposed, vectors, cotangent) -> gradient` with vectors and
their cotangent [B, C, R] and the gradient of the maps [B, N, C]; see
`singular_vectors`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.losses.linalg import eigen
from kdjax.losses.linalg.eigen import product

#: The eigenvalues that are left are taken to be below this part of a vector's own:
#: closer ones are resolved less and less.
_SEPARATION = 0.98


class Decomposed(NamedTuple):
    """Feature maps and what is known of them.

    Attributes:
      x: maps, [B, N, C].
      scale: from `eigen.gram`, [B, 1, 1].
      gram: the smaller of X^T X and X X^T for maps divided by the scale, [B, M, M].
      basis: first eigenvectors of `gram`, at least as many as the singular vectors, by
        descending eigenvalue; approximations will do after those, [B, M, K].
    """

    x: jax.Array
    scale: jax.Array
    gram: jax.Array
    basis: jax.Array


def exact_gradient(
    decomposed: Decomposed, vectors: jax.Array, cotangent: jax.Array
) -> jax.Array:
    """Computes the gradient of the first right singular vectors.

    With A = X^T X, dv_r = (s_r^2 - A)^+ dA v_r, hence
    dX = sum_r X (w_r v_r^T + v_r w_r^T) with w_r = (s_r^2 - A)^+ dv_r. Only the kept
    vectors enter, and where N < C the linear systems are those of X X^T:
    w = (dv + X^T (s^2 - X X^T)^+ X dv) / s^2 for dv orthogonal to v.

    Differences of eigenvalues are damped where they are within rounding, so that
    repeated singular values, whose vectors are not determined, have a finite gradient.

    Source: standard perturbation theory.
    Differs from the original in: the original is off this, see `released_gradient`.

    Args:
      decomposed: the maps.
      vectors: their first right singular vectors, zero where missing, [B, C, R].
      cotangent: gradient of the loss with respect to `vectors`, [B, C, R].

    Returns:
      Gradient with respect to the maps, [B, N, C].
    """
    x, scale, gram, basis = decomposed
    values = eigen.quotients(gram, basis)
    exists = jnp.any(vectors != 0, axis=1, keepdims=True)
    missing = jnp.maximum(values[..., :1], 1)
    shift = jnp.where(exists, values[..., : vectors.shape[2]], missing)
    within = jnp.sum(vectors * cotangent, axis=1, keepdims=True)
    cotangent = jnp.where(exists, cotangent - vectors * within, 0)
    if x.shape[1] >= x.shape[2]:
        solved = _solve_shifted(gram, basis, values, shift, cotangent)
        outer = product(solved, jnp.swapaxes(vectors, 1, 2))
        # The maps are the largest of the operands, and read once.
        return product(x, (outer + jnp.swapaxes(outer, 1, 2)) / scale / scale)
    target = product(x, cotangent) / scale
    solved = _solve_shifted(gram, basis, values, shift, target)
    solved = cotangent + product(jnp.swapaxes(x, 1, 2), solved) / scale
    solved /= shift
    # Both outer products of the sum at once: here they are smaller than X^T X.
    left = product(x, jnp.concatenate([solved, vectors], axis=2)) / scale / scale
    rows = jnp.concatenate([vectors, solved], axis=2)
    return product(left, jnp.swapaxes(rows, 1, 2))


def _solve_shifted(
    gram: jax.Array,
    basis: jax.Array,
    values: jax.Array,
    shift: jax.Array,
    target: jax.Array,
) -> jax.Array:
    """Applies the pseudo-inverse of shift_r - gram to column r of the target.

    In the span of the basis the differences of eigenvalues are known. What is
    orthogonal to it, and the error of the basis, are left to `_chebyshev`.

    Args:
      gram: [B, M, M].
      basis: its first eigenvectors, [B, M, K] with K >= R.
      values: their eigenvalues, [B, 1, K].
      shift: the first R of these, positive, [B, 1, R].
      target: column r orthogonal to eigenvector r, [B, M, R].

    Returns:
      [B, M, R].
    """
    rank, known = shift.shape[2], basis.shape[2]
    transposed = jnp.swapaxes(basis, 1, 2)
    others = jnp.swapaxes(values, 1, 2)
    gap = jnp.where(np.eye(known, rank, dtype=bool)[None], 0, shift - others)
    # Differences below the rounding of the largest mean nothing.
    damped = gap / (jnp.square(gap) + jnp.square(eigen.noise(values[..., :1])))
    inner = product(transposed, target)
    solved = product(basis, damped * inner)
    if known == basis.shape[1]:
        # The basis is complete, but for vectors of the null space that are missing.
        return solved + (target - product(basis, inner)) / shift
    kept = basis[..., :rank]

    def without_kept(x):
        return x - product(kept, product(transposed[:, :rank], x))

    residual = without_kept(target - shift * solved + product(gram, solved))
    deflated = gram - product(kept * values[..., :rank], transposed[:, :rank])
    rest = _chebyshev(
        deflated,
        jnp.swapaxes(shift, 1, 2),
        jnp.swapaxes(residual, 1, 2),
        largest=values[..., -1:],
    )
    return solved + without_kept(jnp.swapaxes(rest, 1, 2))


def _chebyshev(
    matrix: jax.Array, shift: jax.Array, target: jax.Array, *, largest: jax.Array
) -> jax.Array:
    """Solves (shift_r - matrix) y_r = target_r by a fixed number of iterations.

    Chebyshev's iteration for eigenvalues of the matrix from 0 to `largest`. An error
    shrinks by 1/2 an iteration where `largest` is 0.9 of the shift, by 1/6 where it is
    half. Eigenvalues between `largest` and the shift are resolved less, and none is
    amplified: the result is a polynomial of the matrix, finite for finite systems.

    Source: Saad, "Iterative methods for sparse linear systems" (2003), algorithm 12.1.

    Args:
      matrix: positive semidefinite, [B, M, M].
      shift: [B, R, 1].
      target: [B, R, M].
      largest: of the eigenvalues that matter, [B, 1, 1].

    Returns:
      [B, R, M].
    """
    least = shift - jnp.clip(largest, 0.1 * shift, _SEPARATION * shift)
    center, radius = (shift + least) / 2, (shift - least) / 2
    weight = radius / center
    step = target / center
    solved, residual = step, target
    for _ in range(jnp.finfo(target.dtype).nmant // 2 - 1):
        residual -= shift * step - product(step, matrix)
        following = 1 / (2 * center / radius - weight)
        step = following * (weight * step + 2 / radius * residual)
        solved += step
        weight = following
    return solved


def released_rule(
    u: jax.Array, s: jax.Array, v: jax.Array, cotangent: jax.Array
) -> jax.Array:
    """Computes the gradient of a thin SVD's V as the authors released it.

    It is twice the exact gradient where N >= C; where N < C one of its terms is doubled
    and the others are not.

    Source: original: `SVD_grad_map` and the gradient of `SVD`, with their guards:
    non-finite 1 / (s_i^2 - s_j^2) become 0, and 1 / s is 1 / (s + 1e-8).
    Differs from the original in: nothing.

    Args:
      u: [B, N, K] with K = min(N, C).
      s: [B, K].
      v: [B, C, K].
      cotangent: gradient of the loss with respect to `v`, [B, C, K].

    Returns:
      Gradient with respect to the maps, [B, N, C].
    """
    eye = jnp.eye(s.shape[-1], dtype=s.dtype)[None]
    square = jnp.square(s)
    inverse = (1 - eye) / (square[:, None, :] - square[:, :, None] + eye)
    inverse = jnp.where(jnp.isfinite(inverse), inverse, 0)

    def symmetric(x):
        return x + jnp.swapaxes(x, 1, 2)

    u_transposed, v_transposed = jnp.swapaxes(u, 1, 2), jnp.swapaxes(v, 1, 2)
    if u.shape[1] >= v.shape[1]:
        core = symmetric(inverse * product(v_transposed, cotangent))
        return 2 * product(product(u * s[:, None], core), v_transposed)
    scaled = cotangent / (s + 1e-8)[:, None]
    inner = product(v_transposed, scaled)
    core = (
        2 * s[:, :, None] * symmetric(inverse * jnp.swapaxes(inner, 1, 2) * s[:, None])
    )
    core += eye * inner
    return jnp.swapaxes(product(scaled - product(v, core), u_transposed), 1, 2)


def released_gradient(
    decomposed: Decomposed, vectors: jax.Array, cotangent: jax.Array
) -> jax.Array:
    """Applies `released_rule` to the first vectors; arguments as in `exact_gradient`.

    The rule needs all singular vectors, so the maps are decomposed completely.
    """
    scale = decomposed.scale
    u, s, vt = eigen.svd(decomposed.x / scale)
    v = jnp.swapaxes(vt, 1, 2)
    rank = vectors.shape[-1]
    # The decomposition's own signs; 0 where a vector is missing.
    sign = jnp.sign(jnp.sum(v[..., :rank] * vectors, axis=1, keepdims=True))
    padding = ((0, 0), (0, 0), (0, s.shape[-1] - rank))
    return released_rule(u, s, v, jnp.pad(cotangent * sign, padding)) / scale


#: Gradient rules by the name used in `gradient`.
GRADIENTS: dict[str, Callable[[Decomposed, jax.Array, jax.Array], jax.Array]] = {
    "exact": exact_gradient,
    "released": released_gradient,
}
