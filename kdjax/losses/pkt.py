"""PKT: Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge
Transfer" (ECCV 2018).

Matches conditional neighbor probabilities within a batch. Original:
passalis/probabilistic_kt; as in HobbitLong/RepDistiller, `PKT`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import l2_normalize, promote
from kdjax.losses.relations import gather, matmul, require_vectors

#: Added to both probabilities in the logarithm, as in the original.
_EPSILON = 1e-7


def neighbor_probabilities(embedding: jax.Array, everyone: jax.Array) -> jax.Array:
    """Normalizes cosine similarities, mapped to [0, 1], to rows of sum 1.

    Source: the paper's equations 6 and 11; original: `cosine_similarity_loss`.
    Differs from the original in: the length of a vector is not increased by 1e-7; a
    vector of zeros has a gradient of zero, where the original's is not a number.

    Args:
      embedding: of length 1 or 0, [B, C].
      everyone: of length 1 or 0, [B_all, C].

    Returns:
      [B, B_all].
    """
    # Rounding may lead below -1.
    similarity = jnp.maximum((matmul(embedding, everyone.T) + 1) / 2, 0)
    return similarity / jnp.sum(similarity, axis=1, keepdims=True)


def divergence(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Averages t log(t / s) over the entries of each row.

    Source: the paper's equation 14; original: `cosine_similarity_loss`.
    Differs from the original in: t - s, whose sum over a row is zero, is subtracted,
    since without it little but rounding remains of the sum where rows are similar.

    Args:
      student: s, rows of sum 1, [B, B_all].
      teacher: t, rows of sum 1, [B, B_all].

    Returns:
      [B].
    """
    excess = teacher - student
    return jnp.mean(teacher * jnp.log1p(excess / (student + _EPSILON)) - excess, axis=1)


def pkt(
    student: jax.Array, teacher: jax.Array, *, axis_name: str | None = None
) -> jax.Array:
    """Computes the divergence of each example's neighbor probabilities, teacher first.

    Source: the paper's section 3; original: `cosine_similarity_loss`.
    Differs from the original in: what `neighbor_probabilities` and `divergence` say.

    Args:
      student: pooled features, [B, C].
      teacher: pooled features, [B, C'].
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B], float32 or wider: means over the B_all examples, so that the mean of the
      batch is the original's.

    Raises:
      ValueError: if the features are not vectors of one batch.
    """
    require_vectors("pkt", student, teacher)
    student, teacher = map(l2_normalize, promote(student, teacher))
    return divergence(
        *(neighbor_probabilities(x, gather(x, axis_name)) for x in (student, teacher))
    )
