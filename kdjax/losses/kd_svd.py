"""KD-SVD: Lee et al., "Self-supervised Knowledge Distillation Using Singular Value
Decomposition" (ECCV 2018).

Original: sseung0703/KD_methods_with_TF, `SVD.py`, `KD_SVD` and `KD_EID`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.linalg import singular_vectors
from kdjax.losses.numerics import promote, require_equal_shapes

#: Bandwidth of the radial basis, fixed in the original.
_BANDWIDTH = 8


def radial_basis(upper: jax.Array, lower: jax.Array) -> jax.Array:
    """Computes exp(-(upper_i - lower_j)^2 / 8) for all pairs of entries.

    Source: original: the inner part of `KD_SVD`.
    Differs from the original in: nothing.

    Args:
      upper: vectors of the stage nearer to the logits, [B, C_upper, R].
      lower: vectors of the stage before it, [B, C_lower, R].

    Returns:
      [B, C_upper, C_lower, R], float32 or wider.
    """
    upper, lower = promote(upper, lower)
    difference = upper[:, :, None, :] - lower[:, None, :, :]
    return jnp.exp(-jnp.square(difference) / _BANDWIDTH)


def vector_relations(
    student: tuple[jax.Array, jax.Array], teacher: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """Compares how the vectors of two adjacent stages relate in the two networks.

    Source: original: `KD_SVD` and `KD_EID`, the same loss by two decompositions.
    Differs from the original in: the sum stops at the example, where the original sums
    over the batch too; entries that are not finite are not zeroed, there are none.

    Args:
      student: aligned vectors of the lower and the upper stage, [B, C_lower, R] and
        [B, C_upper, R].
      teacher: vectors of the same shapes.

    Returns:
      Sums of squared differences over both stages' entries and the vectors, [B],
      float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    for pair in zip(student, teacher, strict=True):
        require_equal_shapes("vector_relations", *pair)
    (lower, upper), (teacher_lower, teacher_upper) = student, teacher
    difference = radial_basis(upper, lower) - radial_basis(teacher_upper, teacher_lower)
    return jnp.sum(jnp.square(difference), axis=(1, 2, 3))


def vector_difference(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Squared distance of the vectors of one stage: KD-SVDF.

    Source: the baseline "KD-SVDF" of the tables of "Graph-based Knowledge Distillation
    by Multi-head Attention Network" (BMVC 2019), where the singular vectors are
    transferred directly. No code was released: that it is a sum of squared differences
    of aligned first vectors, at every stage, is this package's reading.

    Args:
      student: aligned vectors, [B, C, R].
      teacher: vectors of the same shape.

    Returns:
      Sums of squared differences, [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("vector_difference", student, teacher)
    student, teacher = promote(student, teacher)
    return jnp.sum(jnp.square(student - teacher), axis=(1, 2))


def kd_svd(
    student: tuple[jax.Array, jax.Array],
    teacher: tuple[jax.Array, jax.Array],
    *,
    student_vectors: int = 4,
    algorithm: str = "subspace",
    gradient: str = "exact",
) -> jax.Array:
    """KD-SVD of two adjacent stages.

    Each map is compressed to its first right singular vector, of the student to that of
    its first `student_vectors` which is nearest to the teacher's. How the vectors of
    the two stages relate, entry by entry under a radial basis, is compared.

    Source: original: `KD_SVD` and `KD_EID`.
    Differs from the original in: `vector_relations` and `singular_vectors.compress` say
    what.

    Args:
      student: two adjacent feature maps after their ReLU, [B, H, W, C] each.
      teacher: the teacher's, of the same widths; the sizes may differ.
      student_vectors: candidates among which the nearest is chosen.
      algorithm: how singular vectors are found, a key of
        `linalg.singular_vectors.ALGORITHMS`.
      gradient: rule of the backward pass, a key of `linalg.singular_vectors.GRADIENTS`.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the widths differ or a map has fewer singular vectors.
    """
    vectors = singular_vectors.compress_all(
        [*teacher, *student],
        [1, 1, student_vectors, student_vectors],
        algorithm=algorithm,
        gradient=gradient,
    )
    teacher_vectors, candidates = vectors[:2], vectors[2:]
    aligned = map(singular_vectors.align, candidates, teacher_vectors)
    return vector_relations(tuple(aligned), tuple(teacher_vectors))
