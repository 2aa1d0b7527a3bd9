"""CRD: Tian et al., "Contrastive Representation Distillation" (ICLR 2020).

Contrasts one network's embedding of an image against the other's embeddings of the
same image and of images of other classes, which come from a memory bank. Original:
HobbitLong/RepDistiller, `crd/`.
"""

import math

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import promote
from kdjax.losses.relations import gather, matmul
from kdjax.losses.softmax import require_positive_temperature

#: Added to the density of the noise, as in the original.
_EPSILON = 1e-7


def crd(
    embedding: jax.Array,
    memory: jax.Array,
    index: jax.Array,
    *,
    log_normalizer: float | jax.Array,
    temperature: float | jax.Array = 0.07,
) -> jax.Array:
    """Computes the noise-contrastive loss of one network's embeddings.

    The loss of the paper is the sum of two: the student's embeddings with the teacher's
    memory, and the teacher's embeddings with the student's memory.

    Source: the paper's equations 18 and 19; original: `ContrastMemory.forward` and
    `ContrastLoss`.
    Differs from the original in: the sum stops at the example; logarithms are taken of
    no quotients, so that no score overflows; products with the entire memory are
    computed instead of with the drawn rows: [B, N] values instead of [B, 1 + K, D].

    Args:
      embedding: one network's embeddings, of length 1, [B, D].
      memory: the other network's embeddings of all N training images, [N, D].
      index: of each image itself, then of its K negatives, in the memory, [B, 1 + K]
        integers; negatives may repeat.
      log_normalizer: log Z, a scalar; `crd_log_normalizer` of the first batch, fixed
        from then on.
      temperature: tau of the paper.

    Returns:
      Sums over the positive and the negatives, [B], float32 or wider.

    Raises:
      ValueError: if the shapes do not match or the temperature is not positive.
    """
    _check("crd", embedding, memory, index)
    require_positive_temperature("crd", temperature)
    score = _scores(embedding, memory, temperature) - log_normalizer
    noise = (index.shape[1] - 1) / len(memory)
    total = jnp.logaddexp(score, math.log(noise + _EPSILON))
    positive = jnp.take_along_axis(score - total, index[:, :1], axis=1)[:, 0]
    drawn = _counts(index[:, 1:], len(memory)).astype(score.dtype)
    return -positive - jnp.sum(drawn * (math.log(noise) - total), axis=1)


def crd_log_normalizer(
    embedding: jax.Array,
    memory: jax.Array,
    index: jax.Array,
    *,
    temperature: float | jax.Array = 0.07,
    axis_name: str | None = None,
) -> jax.Array:
    """Estimates log Z, the logarithm of N times the mean of exp(score) over the draws.

    Source: original: `ContrastMemory.forward`.
    Differs from the original in: the logarithm of the mean, so that no score overflows;
    with an axis the mean is over the examples of all devices.

    Args:
      embedding: as in `crd`, [B, D].
      memory: as in `crd`, [N, D].
      index: as in `crd`, [B, 1 + K].
      temperature: as in `crd`.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      A scalar, float32 or wider.

    Raises:
      ValueError: if the shapes do not match or the temperature is not positive.
    """
    _check("crd_log_normalizer", embedding, memory, index)
    require_positive_temperature("crd_log_normalizer", temperature)
    score = _scores(embedding, memory, temperature)
    drawn = _counts(index, len(memory)).astype(score.dtype)
    means = gather(jax.nn.logsumexp(score, axis=1, b=drawn / index.shape[1]), axis_name)
    return jax.nn.logsumexp(means, b=len(memory) / len(means))


def _check(
    name: str, embedding: jax.Array, memory: jax.Array, index: jax.Array
) -> None:
    """Raises a ValueError unless the shapes are [B, D], [N, D] and [B, 1 + K]."""
    if (
        {embedding.ndim, memory.ndim, index.ndim} != {2}
        or embedding.shape[1] != memory.shape[1]
        or len(index) != len(embedding)
        or index.shape[1] < 2
    ):
        raise ValueError(
            f"{name}: embedding {embedding.shape}, memory {memory.shape} and index "
            f"{index.shape} are not [B, D], [N, D] and [B, 1 + K]"
        )


def _scores(
    embedding: jax.Array, memory: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """Returns the logarithms of the paper's h(T, S), not normalized, [B, N]."""
    embedding, memory = promote(embedding, memory)
    return matmul(embedding, memory.T) / temperature


def _counts(index: jax.Array, num_examples: int) -> jax.Array:
    """Counts how often each image was drawn, [B, N] for [B, K] indices.

    With counts the gradient needs no sum over repeated indices, whose order is
    undefined on some accelerators.
    """
    zeros = jnp.zeros((len(index), num_examples), jnp.int32)
    return zeros.at[jnp.arange(len(index))[:, None], index].add(1)
