"""Singular vectors of feature maps: compression, alignment, and their gradients.

A feature map is read as a matrix of N = H*W positions by C channels,
X = U diag(s) V^T. Its first right singular vectors summarise it by directions in the
space of channels. Used by knowledge distillation with singular values and vectors
(Lee et al., ECCV 2018) and by multi-head graph distillation (Lee and Song, BMVC 2019).
Original: sseung0703/KD_methods_with_TF, `SVD.py`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

#: Float32 products in full: the TF32 of some accelerators would cost half the digits.
_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

#: What rounding may add to an eigenvalue of a Gram matrix, as a share of the largest
#: and in units of the type's epsilon.
_NOISE = 16


def l2_normalise(x: jax.Array, axis: int = -1) -> jax.Array:
    """Divides by the Euclidean norm along an axis, never by less than 1e-6.

    Source: original: `tf.nn.l2_normalize`.
    Differs from the original in: nothing.
    """
    square = jnp.sum(jnp.square(x), axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))


def compress(
    feature: jax.Array, rank: int, *, route: str = "subspace", gradient: str = "exact"
) -> jax.Array:
    """Finds the first right singular vectors of every feature map.

    The sign of a vector v, which a decomposition leaves open, is that of
    max v + min v (plus where this is 0): the first vector of a map after its ReLU is
    non-negative. Where a map has fewer directions than `rank`, up to rounding, the
    missing columns are zero and have no gradient; a map of zeros has none.

    Source: original: `SVD_eid`, and `SVD`; the sign rule is that of the same authors'
    later sseung0703/IEPKT.
    Differs from the original in: the sign, left to the solver there; missing
    directions, which are any vectors of the null space there; maps with H*W near C,
    which have no gradient there.

    Args:
      feature: feature map, [B, H, W, C].
      rank: R, how many vectors to keep.
      route: how they are found, a key of `ROUTES`.
      gradient: the rule of the backward pass, a key of `GRADIENTS`. It does not depend
        on the route.

    Returns:
      Unit columns by descending singular value, [B, C, R]; float32 or wider.

    Raises:
      ValueError: if a map cannot have so many vectors, or a name is unknown.
    """
    _, height, width, channels = feature.shape
    if not 1 <= rank <= min(height * width, channels):
        raise ValueError(
            f"compress: maps {feature.shape} have min(H*W, C) = "
            f"{min(height * width, channels)} singular vectors, not {rank}"
        )
    for name, value, table in (
        ("route", route, ROUTES),
        ("gradient", gradient, GRADIENTS),
    ):
        if value not in table:
            raise ValueError(f"compress: {name}={value!r} is none of {sorted(table)}")
    x = _matrix(feature)
    # Unit already, but for rounding; what this adds is the gradient of the scale.
    return l2_normalise(_vectors(x, rank, route, gradient), axis=1)


def left_vectors(feature: jax.Array, right: jax.Array) -> jax.Array:
    """Finds the left singular vectors that belong to right ones of the same map.

    Args:
      feature: feature map, [B, H, W, C].
      right: from `compress`, [B, C, R].

    Returns:
      Unit columns, or zero where `right` is, [B, H*W, R].
    """
    x, _ = _rescale(_matrix(feature))
    return l2_normalise(_product(x, right), axis=1)


def shares(feature: jax.Array, right: jax.Array) -> jax.Array:
    """Weighs right singular vectors of a map by their singular values.

    Source: original: the `s` that `SVD_eid` returns.
    Differs from the original in: nothing.

    Args:
      feature: feature map, [B, H, W, C].
      right: from `compress`, [B, C, R].

    Returns:
      Singular values over their own Euclidean norm, [B, R]: 1 for a single vector, 0
      where a vector is missing.
    """
    x, _ = _rescale(_matrix(feature))
    return l2_normalise(jnp.linalg.norm(_product(x, right), axis=1))


def project(student: jax.Array, left: jax.Array) -> jax.Array:
    """Gives the student a vector for each left vector of the teacher, without an SVD.

    The student's positions are summed with the teacher's weights. There is nothing to
    align, and the gradient is that of a product.

    Source: original: sseung0703/Knowledge_distillation_via_TF2.0 and sseung0703/IEPKT.
    Differs from the original in: nothing, given the teacher's vectors.

    Args:
      student: feature map with as many positions as the teacher's, [B, H, W, C].
      left: left singular vectors of the teacher's map, [B, H*W, R].

    Returns:
      Unit columns, [B, C, R].

    Raises:
      ValueError: if the numbers of positions differ.
    """
    x = _matrix(student)
    if x.shape[1] != left.shape[1]:
        raise ValueError(
            f"project: student {student.shape} has {x.shape[1]} positions, "
            f"the left vectors {left.shape} have {left.shape[1]}"
        )
    return l2_normalise(_product(jnp.swapaxes(x, 1, 2), left), axis=1)


def align(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Picks for each teacher's vector the student's with the largest |cosine|.

    Its sign is chosen so that the cosine is positive. The gradient goes through the
    chosen column only.

    Source: "Graph-based Knowledge Distillation by Multi-head Attention Network"
    (BMVC 2019); original: `Align_rsv`.
    Differs from the original in: of equal cosines the first wins, where the original
    sums their vectors; more than one vector of the teacher is allowed.

    Args:
      student: unit candidates, [B, C, S].
      teacher: unit vectors, [B, C, T].

    Returns:
      Columns of `student` with their signs, [B, C, T]; zero where the teacher's is.

    Raises:
      ValueError: if the numbers of channels differ.
    """
    if student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            f"align: student {student.shape} and teacher {teacher.shape} differ "
            "in their channels"
        )
    cosine = jax.lax.stop_gradient(_product(jnp.swapaxes(student, 1, 2), teacher))
    chosen = jnp.argmax(jnp.abs(cosine), axis=1, keepdims=True)
    sign = jnp.sign(jnp.take_along_axis(cosine, chosen, axis=1))
    return jnp.take_along_axis(student, chosen, axis=2) * sign


def _matrix(feature: jax.Array) -> jax.Array:
    """Reads [B, H, W, C] as [B, H*W, C], in float32 or wider."""
    batch, height, width, channels = feature.shape
    wide = jnp.promote_types(feature.dtype, jnp.float32)
    return feature.astype(wide).reshape(batch, height * width, channels)


def _rescale(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Brings the largest response of a map to 1, so that no square over- or underflows.

    Returns:
      The scaled maps and the divisor, [B, 1, 1].
    """
    scale = jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True)
    scale = jnp.where(scale > jnp.finfo(x.dtype).tiny, scale, 1)
    return x / scale, scale


def _gram(x: jax.Array) -> jax.Array:
    """Computes the smaller of X^T X and X X^T, [B, M, M] with M = min(N, C)."""
    transposed = jnp.swapaxes(x, 1, 2)
    if x.shape[1] < x.shape[2]:
        return _product(x, transposed)
    return _product(transposed, x)


def _by_svd(x: jax.Array, rank: int) -> jax.Array:
    """Decomposes the map itself: the most accurate route and by far the slowest."""
    u, _, vt = jnp.linalg.svd(x, full_matrices=False)
    return (u if x.shape[1] < x.shape[2] else jnp.swapaxes(vt, 1, 2))[..., :rank]


def _by_gram(x: jax.Array, rank: int) -> jax.Array:
    """Decomposes the smaller Gram matrix completely."""
    return jnp.linalg.eigh(_gram(x))[1][..., ::-1][..., :rank]


def _by_subspace(x: jax.Array, rank: int) -> jax.Array:
    """Multiplies a few vectors by the smaller Gram matrix until they are its first.

    2R + 4 vectors are carried. An error in one of the first R shrinks, with each of as
    many products as the type has bits, by the ratio of the first eigenvalue left out to
    that vector's own: a ratio of 1/2 gives it to the last digit. The first vector
    of a map after its ReLU is always found so; where the spectrum is flat beyond it, as
    in an untrained network, the fourth may be off by 1e-3 in float32.
    """
    gram = _gram(x)
    size = gram.shape[-1]
    width = min(2 * rank + 4, size)
    start = np.random.default_rng(0).normal(size=(size, width))

    # Small eigenvalues survive two products between orthonormalisations, not many more.
    def improve(_, basis):
        return jnp.linalg.qr(_product(gram, _product(gram, basis)))[0]

    basis = jnp.linalg.qr(_product(gram, start.astype(x.dtype)))[0]
    basis = jax.lax.fori_loop(0, jnp.finfo(x.dtype).nmant // 2, improve, basis)
    within = _product(jnp.swapaxes(basis, 1, 2), _product(gram, basis))
    turn = jnp.linalg.eigh(within)[1][..., ::-1]
    return _product(basis, turn[..., :rank])


#: Ways to the first eigenvectors of the smaller Gram matrix, X^T X or, where H*W < C,
#: X X^T. All have the form `(x [B, N, C], rank) -> [B, min(N, C), R]`.
ROUTES: dict[str, Callable[[jax.Array, int], jax.Array]] = {
    "svd": _by_svd,
    "gram": _by_gram,
    "subspace": _by_subspace,
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _vectors(x: jax.Array, rank: int, route: str, gradient: str) -> jax.Array:
    """Does the work of `compress` on [B, N, C]."""
    x, _ = _rescale(x)
    found = ROUTES[route](x, rank)
    image = _product(x if x.shape[1] >= x.shape[2] else jnp.swapaxes(x, 1, 2), found)
    value = jnp.sum(jnp.square(image), axis=1, keepdims=True)
    exists = value > _noise(value[..., :1])
    if x.shape[1] < x.shape[2]:
        found = image * jax.lax.rsqrt(jnp.where(exists, value, 1))
    extremes = jnp.max(found, 1, keepdims=True) + jnp.min(found, 1, keepdims=True)
    return jnp.where(exists, jnp.where(extremes >= 0, found, -found), 0)


def _noise(largest: jax.Array) -> jax.Array:
    """Bounds the rounding errors of eigenvalues, given the largest; never 0."""
    return _NOISE * jnp.finfo(largest.dtype).eps * jnp.maximum(largest, 1)


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
    x, scale = _rescale(x)
    transposed = jnp.swapaxes(x, 1, 2)
    left = _product(x, vectors)
    value = jnp.sum(jnp.square(left), axis=1)
    noise = _noise(value[:, :1])
    exists = value > 0
    value = jnp.where(exists, value, jnp.maximum(value[:, :1], 1))
    within = jnp.sum(vectors * cotangent, axis=1, keepdims=True)
    cotangent = jnp.where(exists[:, None], cotangent - vectors * within, 0)
    if x.shape[1] < x.shape[2]:
        basis = left * jax.lax.rsqrt(value)[:, None]
        solved = _solve_shifted(
            _gram(x), basis, value, _product(x, cotangent), noise=noise
        )
        solved = (cotangent + _product(transposed, solved)) / value[:, None]
    else:
        solved = _solve_shifted(_gram(x), vectors, value, cotangent, noise=noise)
    outer = _product(_product(x, solved), jnp.swapaxes(vectors, 1, 2))
    return (outer + _product(left, jnp.swapaxes(solved, 1, 2))) / scale


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
    is orthogonal to all of them value_r - gram is positive: one Cholesky factor each.

    Args:
      gram: [B, M, M].
      basis: its first eigenvectors, zero where missing, [B, M, R].
      value: their eigenvalues, positive, [B, R].
      target: orthogonal to the basis column by column, [B, M, R].
      noise: differences of eigenvalues below this mean nothing, [B, 1].

    Returns:
      [B, M, R]; zero where the systems have no solution to the precision of the type.
    """
    transposed = jnp.swapaxes(basis, 1, 2)
    inner = _product(transposed, target)
    gap = value[:, None, :] - value[:, :, None]
    damped = gap / (jnp.square(gap) + jnp.square(noise[..., None]))
    among = _product(basis, damped * inner)

    rest = target - _product(basis, inner)
    deflated = gram - _product(basis * value[:, None], transposed)
    eye = jnp.eye(gram.shape[-1], dtype=gram.dtype)[None, None]
    matrix = value[..., None, None] * eye - deflated[:, None]
    factor = jnp.linalg.cholesky(matrix + noise[..., None, None] * eye)
    rest = jnp.swapaxes(rest, 1, 2)[..., None]
    # The noise keeps the factor real; a second pass takes back what it did.
    solved = jax.scipy.linalg.cho_solve((factor, True), rest)
    error = rest - _product(matrix, solved)
    solved += jax.scipy.linalg.cho_solve((factor, True), error)
    solved = jnp.swapaxes(solved[..., 0], 1, 2)
    solved -= _product(basis, _product(transposed, solved))
    # No factor: a value left out is as large as a kept one.
    return among + jnp.where(jnp.isfinite(solved), solved, 0)


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
        core = symmetric(inverse * _product(v_transposed, cotangent))
        return 2 * _product(_product(u * s[:, None], core), v_transposed)
    scaled = cotangent / (s + 1e-8)[:, None]
    inner = _product(v_transposed, scaled)
    core = (
        2 * s[:, :, None] * symmetric(inverse * jnp.swapaxes(inner, 1, 2) * s[:, None])
    )
    core += eye * inner
    return jnp.swapaxes(_product(scaled - _product(v, core), u_transposed), 1, 2)


def released_gradient(
    x: jax.Array, vectors: jax.Array, cotangent: jax.Array
) -> jax.Array:
    """Applies `released_rule` to the first vectors; arguments as in `exact_gradient`.

    The rule needs all singular vectors, so the maps are decomposed completely.
    """
    u, s, vt = jnp.linalg.svd(x, full_matrices=False)
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


def _vectors_forward(x, rank, route, gradient):
    vectors = _vectors(x, rank, route, gradient)
    return vectors, (x, vectors)


def _vectors_backward(rank, route, gradient, residuals, cotangent):
    return (GRADIENTS[gradient](*residuals, cotangent),)


_vectors.defvjp(_vectors_forward, _vectors_backward)
