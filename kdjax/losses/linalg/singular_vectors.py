"""Singular vectors of feature maps: compression, alignment, and their gradients.

A feature map is read as a matrix of N = H*W positions by C channels,
X = U diag(s) V^T. Its first right singular vectors summarize it by directions in the
space of channels. Used by knowledge distillation with singular values and vectors
(Lee et al., ECCV 2018) and by multi-head graph distillation (Lee and Song, BMVC 2019).
Original: sseung0703/KD_methods_with_TF, `SVD.py`.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from kdjax.losses.linalg import eigen
from kdjax.losses.linalg.eigen import product
from kdjax.losses.linalg.singular_gradients import GRADIENTS, Decomposed
from kdjax.losses.numerics import promote


def compress(
    feature: jax.Array,
    rank: int,
    *,
    algorithm: str = "subspace",
    gradient: str = "exact",
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
      algorithm: how they are found, a key of `ALGORITHMS`.
      gradient: the rule of the backward pass, a key of `GRADIENTS`.

    Returns:
      Unit columns by descending singular value, [B, C, R]; float32 or wider.

    Raises:
      ValueError: if a map cannot have so many vectors, or a name is unknown.
    """
    settings = {"algorithm": algorithm, "gradient": gradient}
    return compress_all([feature], [rank], **settings)[0]


def compress_all(
    features: Sequence[jax.Array],
    ranks: Sequence[int],
    *,
    algorithm: str = "subspace",
    gradient: str = "exact",
) -> list[jax.Array]:
    """Compresses several feature maps, as `compress` does, in fewer operations.

    Maps of equal min(H*W, C) are decomposed together, as those of a student and its
    teacher.

    Args:
      features: feature maps, [B, H, W, C] each.
      ranks: how many vectors of each to keep.
      algorithm: see `compress`.
      gradient: see `compress`.

    Returns:
      Unit columns of each map, [B, C, R].

    Raises:
      ValueError: see `compress`.
    """
    for feature, rank in zip(features, ranks, strict=True):
        _, height, width, channels = feature.shape
        if not 1 <= rank <= min(height * width, channels):
            raise ValueError(
                f"compress: maps {feature.shape} have min(H*W, C) = "
                f"{min(height * width, channels)} singular vectors, not {rank}"
            )
    for name, value, table in (
        ("algorithm", algorithm, ALGORITHMS),
        ("gradient", gradient, GRADIENTS),
    ):
        if value not in table:
            raise ValueError(f"compress: {name}={value!r} is none of {sorted(table)}")
    maps = [_matrix(feature) for feature in features]
    fixed = [jax.lax.stop_gradient(x) for x in maps]
    grams, scales = zip(*map(eigen.gram, fixed), strict=True)
    scaled = [x / scale for x, scale in zip(fixed, scales, strict=True)]
    bases = ALGORITHMS[algorithm](scaled, grams, max(ranks))
    return [
        # Unit already, but for rounding; what this adds is the gradient of the norm.
        _unit(_right_vectors(Decomposed(*known), rank, gradient))
        for *known, rank in zip(maps, scales, grams, bases, ranks, strict=True)
    ]


def left_vectors(feature: jax.Array, right: jax.Array) -> jax.Array:
    """Finds the left singular vectors that belong to right ones of the same map.

    Args:
      feature: feature map, [B, H, W, C].
      right: from `compress`, [B, C, R].

    Returns:
      Unit columns, or zero where `right` is, [B, H*W, R].
    """
    x = _matrix(feature)
    return _unit(product(x, right) / eigen.scale_of(x))


def weights(feature: jax.Array, right: jax.Array) -> jax.Array:
    """Computes the weights of right singular vectors: their singular values, scaled.

    Source: original: the `s` that `SVD_eid` returns.
    Differs from the original in: nothing.

    Args:
      feature: feature map, [B, H, W, C].
      right: from `compress`, [B, C, R].

    Returns:
      Singular values over their own Euclidean norm, [B, R]: 1 for a single vector, 0
      where a vector is missing.
    """
    if right.shape[2] == 1:
        return jnp.any(right != 0, axis=1).astype(right.dtype)
    x = _matrix(feature)
    return _unit(jnp.linalg.norm(product(x, right) / eigen.scale_of(x), axis=1))


def project(student: jax.Array, left: jax.Array) -> jax.Array:
    """Computes a student vector for each left vector of the teacher, without an SVD.

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
    return _unit(product(jnp.swapaxes(x, 1, 2), left))


def align(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Picks for each teacher vector the student vector with the largest |cosine|.

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
    (feature,) = promote(feature)
    return feature.reshape(batch, height * width, channels)


def _unit(x: jax.Array) -> jax.Array:
    """Divides by the norm along axis 1, never by less than 1e-6, as `l2_normalize` in
    TensorFlow does."""
    square = jnp.sum(jnp.square(x), axis=1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))


def _by_svd(
    maps: Sequence[jax.Array], grams: Sequence[jax.Array], rank: int
) -> list[jax.Array]:
    """Decomposes the maps by `jnp.linalg.svd`, the most accurate and the slowest."""

    def basis(x):
        u, _, vt = eigen.svd(x)
        return u if x.shape[1] < x.shape[2] else jnp.swapaxes(vt, 1, 2)

    return [basis(x) for x in maps]


def _by_gram(
    maps: Sequence[jax.Array], grams: Sequence[jax.Array], rank: int
) -> list[jax.Array]:
    """Decomposes the smaller Gram matrices completely by `jnp.linalg.eigh`."""
    return [eigen.eigh(gram)[1][..., ::-1] for gram in grams]


def _by_subspace(
    maps: Sequence[jax.Array], grams: Sequence[jax.Array], rank: int
) -> list[jax.Array]:
    """Multiplies a few vectors by the smaller Gram matrices until they are the first.

    See `eigen.leading` for how exact they are.
    """
    return eigen.leading(grams, rank)


#: Ways to the first eigenvectors of the smaller Gram matrices, X^T X or, where H*W < C,
#: X X^T. All have the form `(maps [B, N, C], grams [B, M, M], rank) -> bases`, lists
#: all, with at least `rank` columns in each basis.
ALGORITHMS: dict[str, Callable[..., list[jax.Array]]] = {
    "svd": _by_svd,
    "gram": _by_gram,
    "subspace": _by_subspace,
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _right_vectors(decomposed: Decomposed, rank: int, gradient: str) -> jax.Array:
    """Turns the basis into right singular vectors with signs, [B, C, rank].

    A function of the maps alone: the scale changes no vector, and the Gram matrix and
    its basis are computed from the maps.
    """
    x, scale, gram, basis = decomposed
    found = basis[..., :rank]
    value = eigen.quotients(gram, found)
    exists = value > eigen.noise(value[..., :1])
    if x.shape[1] < x.shape[2]:
        image = product(jnp.swapaxes(x, 1, 2), found) / scale
        square = jnp.sum(jnp.square(image), axis=1, keepdims=True)
        found = image * jax.lax.rsqrt(jnp.where(square > 0, square, 1))
    extremes = jnp.max(found, 1, keepdims=True) + jnp.min(found, 1, keepdims=True)
    return jnp.where(exists, jnp.where(extremes >= 0, found, -found), 0)


def _right_vectors_forward(decomposed, rank, gradient):
    vectors = _right_vectors(decomposed, rank, gradient)
    return vectors, (decomposed, vectors)


def _right_vectors_backward(rank, gradient, residuals, cotangent):
    decomposed, vectors = residuals
    found = GRADIENTS[gradient](decomposed, vectors, cotangent)
    return (Decomposed(found, *map(jnp.zeros_like, decomposed[1:])),)


_right_vectors.defvjp(_right_vectors_forward, _right_vectors_backward)
