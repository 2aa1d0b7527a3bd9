"""Singular vectors of feature maps: compression, alignment, and their gradients.

A feature map is read as a matrix of N = H*W positions by C channels,
X = U diag(s) V^T. Its first right singular vectors summarize it by directions in the
space of channels. Used by knowledge distillation with singular values and vectors
(Lee et al., ECCV 2018) and by multi-head graph distillation (Lee and Song, BMVC 2019).
Original: sseung0703/KD_methods_with_TF, `SVD.py`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from kdjax.distill.linalg import eigen
from kdjax.distill.linalg.eigen import product
from kdjax.distill.linalg.singular_gradients import GRADIENTS


def l2_normalize(x: jax.Array, axis: int = -1) -> jax.Array:
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
    return l2_normalize(_vectors(x, rank, route, gradient), axis=1)


def left_vectors(feature: jax.Array, right: jax.Array) -> jax.Array:
    """Finds the left singular vectors that belong to right ones of the same map.

    Args:
      feature: feature map, [B, H, W, C].
      right: from `compress`, [B, C, R].

    Returns:
      Unit columns, or zero where `right` is, [B, H*W, R].
    """
    x, _ = eigen.rescale(_matrix(feature))
    return l2_normalize(product(x, right), axis=1)


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
    x, _ = eigen.rescale(_matrix(feature))
    return l2_normalize(jnp.linalg.norm(product(x, right), axis=1))


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
    return l2_normalize(product(jnp.swapaxes(x, 1, 2), left), axis=1)


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
    cosine = jax.lax.stop_gradient(product(jnp.swapaxes(student, 1, 2), teacher))
    chosen = jnp.argmax(jnp.abs(cosine), axis=1, keepdims=True)
    sign = jnp.sign(jnp.take_along_axis(cosine, chosen, axis=1))
    return jnp.take_along_axis(student, chosen, axis=2) * sign


def _matrix(feature: jax.Array) -> jax.Array:
    """Reads [B, H, W, C] as [B, H*W, C], in float32 or wider."""
    batch, height, width, channels = feature.shape
    wide = jnp.promote_types(feature.dtype, jnp.float32)
    return feature.astype(wide).reshape(batch, height * width, channels)


def _by_svd(x: jax.Array, rank: int) -> jax.Array:
    """Decomposes the map itself: the most accurate route and by far the slowest."""
    u, _, vt = eigen.svd(x)
    return (u if x.shape[1] < x.shape[2] else jnp.swapaxes(vt, 1, 2))[..., :rank]


def _by_gram(x: jax.Array, rank: int) -> jax.Array:
    """Decomposes the smaller Gram matrix completely."""
    return eigen.eigh(eigen.gram(x))[1][..., ::-1][..., :rank]


def _by_subspace(x: jax.Array, rank: int) -> jax.Array:
    """Multiplies a few vectors by the smaller Gram matrix until they are its first.

    See `eigen.leading` for how exact they are.
    """
    return eigen.leading(eigen.gram(x), rank)


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
    x, _ = eigen.rescale(x)
    found = ROUTES[route](x, rank)
    image = product(x if x.shape[1] >= x.shape[2] else jnp.swapaxes(x, 1, 2), found)
    value = jnp.sum(jnp.square(image), axis=1, keepdims=True)
    exists = value > eigen.noise(value[..., :1])
    if x.shape[1] < x.shape[2]:
        found = image * jax.lax.rsqrt(jnp.where(exists, value, 1))
    extremes = jnp.max(found, 1, keepdims=True) + jnp.min(found, 1, keepdims=True)
    return jnp.where(exists, jnp.where(extremes >= 0, found, -found), 0)


def _vectors_forward(x, rank, route, gradient):
    vectors = _vectors(x, rank, route, gradient)
    return vectors, (x, vectors)


def _vectors_backward(rank, route, gradient, residuals, cotangent):
    return (GRADIENTS[gradient](*residuals, cotangent),)


_vectors.defvjp(_vectors_forward, _vectors_backward)
