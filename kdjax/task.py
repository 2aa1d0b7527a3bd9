"""Loss and accuracy of the task, classification, also of mixed images."""

import functools

import jax
import jax.numpy as jnp
import optax

from kdjax.data.augment import mixup
from kdjax.data.pipeline.batches import Batch


def cross_entropy(
    logits: jax.Array, batch: Batch, *, label_smoothing: float = 0.0
) -> jax.Array:
    """Returns the cross-entropy of each example, [B], a mixture for mixed images.

    With label smoothing e the target is 1 - e + e / K for the label and e / K for the
    other classes, as in PyTorch's `CrossEntropyLoss` and in Szegedy et al., "Rethinking
    the Inception Architecture for Computer Vision" (CVPR 2016).

    Args:
      logits: [B, K].
      batch: with the labels.
      label_smoothing: e.
    """
    of_label = functools.partial(
        optax.softmax_cross_entropy_with_integer_labels, logits
    )
    values = mixup.mixed_loss(of_label, batch.label, batch.mixed)
    if not label_smoothing:
        return values
    of_all = jax.nn.logsumexp(logits, -1) - jnp.mean(logits, -1)
    return (1 - label_smoothing) * values + label_smoothing * of_all


def accuracy(logits: jax.Array, batch: Batch) -> jax.Array:
    """Returns whether each example is classified right, [B], mixed likewise."""
    is_predicted = functools.partial(jnp.equal, jnp.argmax(logits, -1))
    return mixup.mixed_loss(is_predicted, batch.label, batch.mixed)
