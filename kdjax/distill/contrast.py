"""Noise-contrastive estimation against a memory of all training images' embeddings."""

import math

import jax
import jax.numpy as jnp

from kdjax.distill import transforms

#: Added to the noise's share, as released.
_EPSILON = 1e-7


def scores(embedding: jax.Array, memory: jax.Array, *, temperature: float) -> jax.Array:
    """Compares embeddings with all remembered ones.

    Source: the paper's h(T, S) before its exponential; original:
    `ContrastMemory.forward`.
    Differs from the original in: products with the whole memory are computed, not with
    the rows drawn alone: [B, N] values instead of [B, 1 + K, D].

    Args:
      embedding: of length 1, [B, D].
      memory: the other network's embeddings of all training images, [N, D].
      temperature: tau of the paper.

    Returns:
      [B, N].
    """
    memory = memory.astype(embedding.dtype)
    products = jnp.matmul(embedding, memory.T, precision=jax.lax.Precision.HIGHEST)
    return products / temperature


def counts(place: jax.Array, num_examples: int) -> jax.Array:
    """Counts how often each training image was drawn, [B, N] for [B, K] places.

    With counts the gradient needs no sum over repeated places, whose order some
    accelerators leave open.
    """
    none = jnp.zeros((len(place), num_examples), jnp.int32)
    return none.at[jnp.arange(len(place))[:, None], place].add(1)


def loss(score: jax.Array, place: jax.Array, *, log_normalizer: jax.Array) -> jax.Array:
    """Asks which score belongs to a pair, by noise-contrastive estimation.

    Source: the paper's equation 18; original: `ContrastLoss`.
    Differs from the original in: the sum stops at the example; logarithms are taken of
    no quotients, so that no score overflows.

    Args:
      score: logarithms of h, not normalized, by all training images, [B, N].
      place: the image itself and its negatives among them, [B, 1 + K].
      log_normalizer: logarithm of Z, a scalar.

    Returns:
      Sums over positive and negatives, [B].
    """
    num_examples = score.shape[1]
    noise = (place.shape[1] - 1) / num_examples
    score = score - log_normalizer
    total = jnp.logaddexp(score, math.log(noise + _EPSILON))
    positive = jnp.take_along_axis(score - total, place[:, :1], axis=1)[:, 0]
    drawn = counts(place[:, 1:], num_examples).astype(score.dtype)
    return -positive - jnp.sum(drawn * (math.log(noise) - total), axis=1)


def log_mean_exponential(score: jax.Array, place: jax.Array) -> jax.Array:
    """Averages exp(score) over what each image has drawn, for the normalizer.

    Source: RepDistiller, `ContrastMemory.forward`.
    Differs from the original in: the logarithm of the mean, so that no score overflows.

    Returns:
      Logarithms of the means, without a gradient, [B].
    """
    drawn = counts(place, score.shape[1]).astype(score.dtype)
    score = jax.lax.stop_gradient(score)
    return jax.nn.logsumexp(score, axis=1, b=drawn / place.shape[1])


def updated(
    memory: jax.Array, embedding: jax.Array, index: jax.Array, *, momentum: float
) -> jax.Array:
    """Moves the rows of some images toward their new embeddings.

    Source: RepDistiller, `ContrastMemory.forward`.
    Differs from the original in: nothing.

    Args:
      memory: [N, D].
      embedding: [B, D].
      index: rows, no two the same, [B].
      momentum: share of the old row.
    """
    rows = momentum * memory[index] + (1 - momentum) * embedding.astype(memory.dtype)
    return memory.at[index].set(transforms.unit(rows))
