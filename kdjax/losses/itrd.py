"""ITRD: Miles, Lopez-Rodriguez and Mikolajczyk, "Information Theoretic Representation
Distillation" (BMVC 2022).

Original: roymiles/ITRD, `distiller_zoo/IT.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import center, l2_normalize, promote, require_equal_shapes
from kdjax.losses.relations import gather, global_sum, matmul, require_vectors


def _standardized(x: jax.Array) -> jax.Array:
    """Scales each column to mean 0 and an unbiased deviation of 1 over the rows."""
    return max(len(x) - 1, 0) ** 0.5 * l2_normalize(center(x, 0), 0)


def itrd_correlation(
    student: jax.Array,
    teacher: jax.Array,
    *,
    order: float = 1.5,
    axis_name: str | None = None,
) -> jax.Array:
    """Computes log2 sum_d ((1 - c_d)^2)^order.

    c_d is the correlation of entry d of both embeddings over the batch.

    Source: the original's `ITLoss.forward_correlation_it`, without its embedding.
    Differs from the original in: an entry that is the same in all examples correlates
    with nothing, where there it is divided by 0; with an axis the examples of all
    devices are related. Deviations have n - 1 beside products divided by n, as there:
    c_d does not exceed (n - 1) / n, and the logarithm stays finite.

    Args:
      student: embeddings, [B, C].
      teacher: [B, C].
      order: alpha of the paper, of Renyi's entropy.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B], float32 or wider: the same value for every example.

    Raises:
      ValueError: if the shapes differ or are not of vectors.
    """
    require_equal_shapes("itrd_correlation", student, teacher)
    require_vectors("itrd_correlation", student, teacher)
    size = len(student)
    student, teacher = (
        _standardized(gather(x, axis_name)) for x in promote(student, teacher)
    )
    excess = jnp.square(1 - jnp.mean(student * teacher, axis=0))
    return jnp.broadcast_to(jnp.log2(jnp.sum(excess**order)), (size,))


def itrd_mutual(
    student: jax.Array, teacher: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """Computes sum (G_s^2 - G_st^2), entry by entry, of two matrices over the batch.

    G_s are the products of the student's embeddings of length 1; G_st are these times
    the teacher's; both are divided by their traces.

    Source: the original's `ITLoss.forward_mutual_it`, without its embedding.
    Differs from the original in: embeddings of zeros have a gradient of zero; with an
    axis the examples of all devices are related.

    Args:
      student: embeddings, [B, C].
      teacher: [B, C'].
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B], float32 or wider: the row of every example, times the number of examples, so
      that the mean of the batch is the original's.

    Raises:
      ValueError: if the features are not vectors of one batch.
    """
    require_vectors("itrd_mutual", student, teacher)
    student, teacher = map(l2_normalize, promote(student, teacher))
    of_student, of_teacher = (
        matmul(x, gather(x, axis_name).T) for x in (student, teacher)
    )
    # The diagonal has the squared lengths.
    lengths = jnp.sum(jnp.square(student), axis=1)
    both = lengths * jnp.sum(jnp.square(teacher), axis=1)

    def normalized(products, diagonal):
        trace = global_sum(diagonal, axis_name)
        return products / jnp.where(trace > 0, trace, 1)

    difference = jnp.square(normalized(of_student, lengths)) - jnp.square(
        normalized(of_student * of_teacher, both)
    )
    return of_student.shape[1] * jnp.sum(difference, axis=1)
