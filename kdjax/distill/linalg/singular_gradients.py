"""Gradients of the first right singular vectors of feature maps.

A rule has the form `(x, vectors, cotangent) -> gradient` with maps [B, N, C] and
vectors [B, C, R]; see `singular_vectors`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from kdjax.distill.linalg import eigen
from kdjax.distill.linalg.eigen import product


def exact_gradient(x: jax.Array, vectors: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Computes the gradient of the first right singular vectors.

    With A = X^T X, dv_r = (s_r^2 - A)^+ dA v_r, hence
    dX = sum_r X (w_r v_r^T + v_r w_r^T) with w_r = (s_r^2 - A)^+ dv_r. Only the kept
    vectors enter, and where H*W < C the linear systems are those of X X^T:
    w = (dv + X^T (s^2 - X X^T)^+ X dv) / s^2 for dv orthogonal to v.

    Differences of eigenvalues are damped where they drown in rounding, so that repeated
    singular values, whose vectors are not determined, leave the gradient finite.

    Source: standard perturbation theory.
    Differs from the original in: the original is off this, see `released_gradient`.

    Args:
      x: maps, [B, N, C].
      vectors: their first right singular vectors, zero where missing, [B, C, R].
      cotangent: gradient of the loss with respect to `vectors`, [B, C, R].

    Returns:
      Gradient with respect to `x`, [B, N, C].
    """
    x, scale = eigen.rescale(x)
    transposed = jnp.swapaxes(x, 1, 2)
    left = product(x, vectors)
    value = jnp.sum(jnp.square(left), axis=1)
    noise = eigen.noise(value[:, :1])
    exists = value > 0
    value = jnp.where(exists, value, jnp.maximum(value[:, :1], 1))
    within = jnp.sum(vectors * cotangent, axis=1, keepdims=True)
    cotangent = jnp.where(exists[:, None], cotangent - vectors * within, 0)
    gram = eigen.gram(x)
    if x.shape[1] < x.shape[2]:
        basis = left * jax.lax.rsqrt(value)[:, None]
        target = product(x, cotangent)
        solved = _solve_shifted(gram, basis, value, target, noise=noise)
        solved = (cotangent + product(transposed, solved)) / value[:, None]
    else:
        solved = _solve_shifted(gram, vectors, value, cotangent, noise=noise)
    outer = product(product(x, solved), jnp.swapaxes(vectors, 1, 2))
    return (outer + product(left, jnp.swapaxes(solved, 1, 2))) / scale


def _solve_shifted(
    gram: jax.Array,
    basis: jax.Array,
    value: jax.Array,
    target: jax.Array,
    *,
    noise: jax.Array,
) -> jax.Array:
    """Applies the pseudo-inverse of value_r - gram to column r of the target.

    Between the kept eigenvectors the differences of eigenvalues are at hand. On what
    is orthogonal to all of them value_r - gram is positive: conjugate gradients.

    Args:
      gram: [B, M, M].
      basis: its first eigenvectors, zero where missing, [B, M, R].
      value: their eigenvalues, positive, [B, R].
      target: orthogonal to the basis column by column, [B, M, R].
      noise: differences of eigenvalues below this mean nothing, [B, 1].

    Returns:
      [B, M, R].
    """
    transposed = jnp.swapaxes(basis, 1, 2)
    inner = product(transposed, target)
    gap = value[:, None, :] - value[:, :, None]
    damped = gap / (jnp.square(gap) + jnp.square(noise[..., None]))
    among = product(basis, damped * inner)

    deflated = gram - product(basis * value[:, None], transposed)
    solved = _conjugate_gradients(
        deflated,
        value[..., None],
        jnp.swapaxes(target - product(basis, inner), 1, 2),
        floor=noise[..., None],
        size=jnp.max(jnp.abs(target), axis=1)[..., None],
    )
    solved = jnp.swapaxes(solved, 1, 2)
    return among + solved - product(basis, product(transposed, solved))


def _conjugate_gradients(
    matrix: jax.Array,
    shift: jax.Array,
    target: jax.Array,
    *,
    floor: jax.Array,
    size: jax.Array,
) -> jax.Array:
    """Solves (shift_r - matrix) y_r = target_r for all r at once.

    A system is done when its residual is less than the rounding of what was asked: at
    once where nothing was asked, after four to ten steps where the eigenvalues of the
    matrix are well below the shift, after fifty in the flattest spectra seen. It is
    left as it stands after 2M steps, where its residual grows to 1 / epsilon, or where
    it would go in a direction in which it is not positive by more than `floor`: it has
    no solution to the precision of the type. The relative error of a solution is
    about epsilon * shift / gap, with the gap between the shift and the eigenvalues, as
    with a factorisation.

    Source: Hestenes and Stiefel, "Methods of conjugate gradients for solving linear
    systems" (1952); Steihaug, "The conjugate gradient method and trust regions in large
    scale optimization" (1983), for where to stop.
    Differs from the original in: nothing.

    Args:
      matrix: symmetric, [B, M, M].
      shift: [B, R, 1].
      target: [B, R, M].
      floor: positive, [B, 1, 1].
      size: of what was asked, before its part along the kept vectors was taken out,
        [B, R, 1].

    Returns:
      [B, R, M]; finite for finite systems.
    """
    # What was asked may be so small that its square is zero.
    unit = jnp.where(size > 0, size, 1)
    target = target / unit
    enough = jnp.square(jnp.finfo(target.dtype).eps)

    def squared(rows):
        return jnp.sum(jnp.square(rows), axis=2, keepdims=True)

    def step(carry):
        count, solved, residual, direction, square, open_ = carry
        image = shift * direction - product(direction, matrix)
        curvature = jnp.sum(direction * image, axis=2, keepdims=True)
        open_ &= curvature > floor * squared(direction)
        length = jnp.where(open_, square / jnp.where(open_, curvature, 1), 0)
        solved += length * direction
        residual -= length * image
        following = squared(residual)
        open_ &= (following > enough) & (following < 1 / enough)
        direction = residual + direction * jnp.where(open_, following / square, 0)
        return count + 1, solved, residual, direction, following, open_

    def unfinished(carry):
        return (carry[0] < 2 * target.shape[2]) & jnp.any(carry[-1])

    square = squared(target)
    start = (0, jnp.zeros_like(target), target, target, square, square > enough)
    return jax.lax.while_loop(unfinished, step, start)[1] * unit


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
    x: jax.Array, vectors: jax.Array, cotangent: jax.Array
) -> jax.Array:
    """Applies `released_rule` to the first vectors; arguments as in `exact_gradient`.

    The rule needs all singular vectors, so the maps are decomposed completely.
    """
    u, s, vt = eigen.svd(x)
    v = jnp.swapaxes(vt, 1, 2)
    rank = vectors.shape[-1]
    # The decomposition's own signs, and nothing for a vector that is missing.
    sign = jnp.sign(jnp.sum(v[..., :rank] * vectors, axis=1, keepdims=True))
    padding = ((0, 0), (0, 0), (0, s.shape[-1] - rank))
    return released_rule(u, s, v, jnp.pad(cotangent * sign, padding))


#: Rules of the backward pass, `(x, vectors, cotangent) -> gradient`.
GRADIENTS: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "exact": exact_gradient,
    "released": released_gradient,
}
