"""CutMix: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with
Localizable Features" (ICCV 2019).

Pastes a rectangle of another image into each, and mixes their labels by its area.
Original: clovaai/CutMix-PyTorch, `train.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.data.augment import mixup
from kdjax.data.augment.mixup import Mixed


def mix(
    key: jax.Array,
    image: jax.Array,
    label: jax.Array,
    *,
    alpha: float,
    probability: float,
    mixup_alpha: float,
    index_in_batch: jax.Array,
    batch_size: int,
    axis_name: str | None = None,
) -> tuple[jax.Array, Mixed | None]:
    """Pastes a rectangle into every image of a batch from a partner in the batch.

    Draws one rectangle and one permutation for the batch over all devices. Batches
    that are not cut are mixed by mixup, if its alpha is not 0. Randomness depends on
    (key, index in batch, batch size), not on sharding.

    Differs from the original in: mixup for the other batches, as a choice.

    Args:
      key: of this step.
      image: normalized, [B, H, W, 3].
      label: class of each image, [B].
      alpha: of the Beta distribution of the part that stays; 0 for no CutMix.
      probability: of a batch to be cut.
      mixup_alpha: of mixup; 0 for none.
      index_in_batch: of each example, over all devices, [B] int32.
      batch_size: over all devices.
      axis_name: device axis of the batch; None on a single device.

    Returns:
      The mixed images, and what is in them; None if nothing is ever mixed.
    """
    in_batch = {
        "index_in_batch": index_in_batch,
        "batch_size": batch_size,
        "axis_name": axis_name,
    }
    if not alpha:
        return mixup.mix(key, image, label, alpha=mixup_alpha, **in_batch)
    chosen_key, box_key, lam_key, partner_key = jax.random.split(key, 4)
    other, other_label = mixup.partners(partner_key, image, label, **in_batch)
    inside = box(box_key, *image.shape[1:3], alpha=alpha)
    pasted = jnp.where(inside[None, :, :, None], other, image)
    blended, lam = image, jnp.ones((), image.dtype)
    if mixup_alpha:
        lam = jax.random.beta(lam_key, mixup_alpha, mixup_alpha, dtype=image.dtype)
        blended = lam * image + (1 - lam) * other
    cut = jax.random.bernoulli(chosen_key, probability)
    lam = jnp.where(cut, 1 - jnp.mean(inside, dtype=image.dtype), lam)
    mixed = Mixed(other_label, jax.lax.broadcast(lam, label.shape))
    return jnp.where(cut, pasted, blended), mixed


def box(key: jax.Array, height: int, width: int, *, alpha: float) -> jax.Array:
    """Draws a rectangle; returns which pixels are in it, [H, W] bool.

    Its sides are sqrt(1 - lambda) of the image's, with lambda from Beta(alpha, alpha),
    and its center is any pixel; what lies beyond the image is cut off.
    """
    lam_key, *keys = jax.random.split(key, 3)
    share = jnp.sqrt(1 - jax.random.beta(lam_key, alpha, alpha))

    def span(key: jax.Array, size: int) -> jax.Array:
        half = jnp.floor(size * share).astype(jnp.int32) // 2
        center = jax.random.randint(key, (), 0, size)
        place = jnp.arange(size)
        return (place >= center - half) & (place < center + half)

    rows, columns = (
        span(key, size) for key, size in zip(keys, (height, width), strict=True)
    )
    return rows[:, None] & columns[None, :]
