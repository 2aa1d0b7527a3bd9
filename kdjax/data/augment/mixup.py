"""mixup: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018).

A network is trained on mixtures of two images each, and to answer with a mixture of
their classes. Original: facebookresearch/mixup-cifar10, `train.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax


class Mixed(NamedTuple):
    """What was mixed into one device's share of a batch.

    Attributes:
      label: class of each image's partner, [B] int32.
      share: of the image itself in the mixture, lambda of the paper, [B] float32; the
        same throughout a batch.
    """

    label: jax.Array
    share: jax.Array


def mix(
    key: jax.Array,
    image: jax.Array,
    label: jax.Array,
    *,
    alpha: float,
    position: jax.Array,
    batch_size: int,
    axis_name: str | None = None,
) -> tuple[jax.Array, Mixed | None]:
    """Mixes every image of a batch with a partner from the whole batch.

    One share is drawn for the batch, from Beta(alpha, alpha), and one permutation: who
    is mixed with whom depends on the key and the size of the batch, not on how the
    batch is spread over devices.

    Differs from the original in: nothing but the random numbers.

    Args:
      key: randomness of this step.
      image: normalized, [B, H, W, 3].
      label: class of each image, [B].
      alpha: of the Beta distribution; 0 mixes nothing.
      position: place of each example in the whole batch, [B] int32.
      batch_size: size of the whole batch over all devices.
      axis_name: device axis over which the batch is spread; None on a single device.

    Returns:
      The mixtures, like `image`, and what is in them; None if nothing is mixed.
    """
    if not alpha:
        return image, None
    share_key, partner_key = jax.random.split(key)
    share = jax.random.beta(share_key, alpha, alpha, dtype=image.dtype)
    partner = jax.random.permutation(partner_key, batch_size)[position]
    whole = image, label
    if axis_name is not None:
        whole = jax.lax.all_gather(whole, axis_name, tiled=True)
    other, other_label = (x[partner] for x in whole)
    mixed = Mixed(other_label, jax.lax.broadcast(share, label.shape))
    return share * image + (1 - share) * other, mixed


def of_classes(
    value: Callable[[jax.Array], jax.Array], label: jax.Array, mixed: Mixed | None
) -> jax.Array:
    """Weighs what the two classes of each mixture give by their shares.

    Args:
      value: gives one value an example, [B], for classes, [B].
      label: class of each image, [B].
      mixed: what was mixed into the images; None gives `value(label)` itself.
    """
    if mixed is None:
        return value(label)
    return mixed.share * value(label) + (1 - mixed.share) * value(mixed.label)
