"""SP: Tung and Mori, "Similarity-Preserving Knowledge Distillation" (ICCV 2019).

Matches the similarities of a batch's feature maps. As in HobbitLong/RepDistiller,
`Similarity`, verified there by the authors.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import l2_normalize, promote
from kdjax.losses.relations import gather, matmul, require_equal_batches


def similarities(features: jax.Array, everyone: jax.Array) -> jax.Array:
    """Computes the Gram matrix of flattened feature maps, with rows of length 1.

    Source: the paper's equations 1 and 2; as in RepDistiller,
    `Similarity.similarity_loss`.
    Differs from the original in: the row of a map of zeros has a gradient of zero.

    Args:
      features: [B, ...].
      everyone: [B_all, ...].

    Returns:
      [B, B_all].
    """
    features, everyone = (x.reshape(len(x), -1) for x in (features, everyone))
    # Rows keep their direction, and products of large maps do not overflow.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(everyone)))
    scale = jnp.where(largest > 0, largest, 1)
    return l2_normalize(matmul(features / scale, (everyone / scale).T))


def similarity_preserving(
    student: jax.Array, teacher: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """Averages the squared differences of each example's similarities to the batch.

    Source: the paper's equation 4; as in RepDistiller, `Similarity.similarity_loss`.
    Differs from the original in: what `similarities` says.

    Args:
      student: feature maps, [B, ...].
      teacher: feature maps, [B, ...]; sizes and channels may differ.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B], float32 or wider; the mean of the batch has the paper's factor 1 / B^2.

    Raises:
      ValueError: if the maps are not of one batch.
    """
    require_equal_batches("similarity_preserving", student, teacher)
    student, teacher = (
        similarities(*promote(x, gather(x, axis_name))) for x in (student, teacher)
    )
    return jnp.mean(jnp.square(student - teacher), axis=1)
