"""SRD: Miles and Mikolajczyk, "Understanding the Role of the Projector in Knowledge
Distillation" (AAAI 2024).

Original: roymiles/Simple-Recipe-Distillation,
`imagenet/torchdistill/losses/single.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import ROUNDINGS, center, promote, require_equal_shapes
from kdjax.losses.relations import gather, require_vectors

#: Added to variances, as in the original.
_EPSILON = 1e-4


def _standardized(x: jax.Array) -> jax.Array:
    """Scales each column to mean 0 and deviation 1 over the rows, as a batch norm."""
    centered = center(x, 0)
    variance = jnp.mean(jnp.square(centered), axis=0, keepdims=True)
    return centered / jnp.sqrt(variance + _EPSILON)


def srd(
    student: jax.Array, teacher: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """Computes log sum |s - t|^4 over the batch and all entries.

    s and t are both embeddings, each entry standardized over the batch as by a batch
    norm without weights.

    Source: the original's `OurDistillationLoss.forward_loss`, without its projector.
    Differs from the original in: embeddings equal up to rounding have the logarithm of
    that rounding, not of 0, and a gradient of zero; with an axis the examples of all
    devices are related.

    Args:
      student: embeddings, [B, C].
      teacher: [B, C].
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B], float32 or wider: the same value for every example.

    Raises:
      ValueError: if the shapes differ or are not of vectors.
    """
    require_equal_shapes("srd", student, teacher)
    require_vectors("srd", student, teacher)
    size = len(student)
    student, teacher = (
        _standardized(gather(x, axis_name)) for x in promote(student, teacher)
    )
    total = jnp.sum(jnp.square(jnp.square(student - teacher)))
    smallest = student.size * (ROUNDINGS * jnp.finfo(total.dtype).eps) ** 4
    return jnp.broadcast_to(jnp.log(jnp.maximum(total, smallest)), (size,))
