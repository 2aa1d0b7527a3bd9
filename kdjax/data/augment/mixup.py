"""mixup: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018).

Trains on convex combinations of pairs of images, with the same combination of their
labels. Original: facebookresearch/mixup-cifar10, `train.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax


class Mixed(NamedTuple):
    """What was mixed into the batch of one device.

    Attributes:
      label: class of each image's partner, [B] int32.
      lam: weight of the image itself, lambda of the paper, [B] float32; one value for
        the batch.
    """

    label: jax.Array
    lam: jax.Array


def mix(
    key: jax.Array,
    image: jax.Array,
    label: jax.Array,
    *,
    alpha: float,
    index_in_batch: jax.Array,
    batch_size: int,
    axis_name: str | None = None,
) -> tuple[jax.Array, Mixed | None]:
    """Mixes every image of a batch with a partner from the batch over all devices.

    Draws one lambda from Beta(alpha, alpha) and one permutation for the batch.
    Randomness depends on (key, index in batch, batch size), not on sharding.

    Differs from the original in: nothing but the random numbers.

    Args:
      key: of this step.
      image: normalized, [B, H, W, 3].
      label: class of each image, [B].
      alpha: of the Beta distribution; 0 for no mixup.
      index_in_batch: of each example, over all devices, [B] int32.
      batch_size: over all devices.
      axis_name: device axis of the batch; None on a single device.

    Returns:
      The mixed images, and what is in them; None without mixup.
    """
    if not alpha:
        return image, None
    lam_key, partner_key = jax.random.split(key)
    lam = jax.random.beta(lam_key, alpha, alpha, dtype=image.dtype)
    other, other_label = partners(
        partner_key,
        image,
        label,
        index_in_batch=index_in_batch,
        batch_size=batch_size,
        axis_name=axis_name,
    )
    mixed = Mixed(other_label, jax.lax.broadcast(lam, label.shape))
    return lam * image + (1 - lam) * other, mixed


def partners(
    key: jax.Array,
    image: jax.Array,
    label: jax.Array,
    *,
    index_in_batch: jax.Array,
    batch_size: int,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array]:
    """Returns image and label of each example's partner; arguments as of `mix`."""
    partner = jax.random.permutation(key, batch_size)[index_in_batch]
    gathered = image, label
    if axis_name is not None:
        gathered = jax.lax.all_gather(gathered, axis_name, tiled=True)
    other, other_label = (x[partner] for x in gathered)
    return other, other_label


def mixed_loss(
    loss: Callable[[jax.Array], jax.Array], label: jax.Array, mixed: Mixed | None
) -> jax.Array:
    """Returns `lam * loss(label) + (1 - lam) * loss(mixed.label)`, [B].

    Args:
      loss: from classes [B] to one value an example [B]; may also be an accuracy.
      label: class of each image, [B].
      mixed: what was mixed into the images; None gives `loss(label)`.
    """
    if mixed is None:
        return loss(label)
    return mixed.lam * loss(label) + (1 - mixed.lam) * loss(mixed.label)
