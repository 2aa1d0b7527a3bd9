"""Random brightness, contrast, saturation and hue.

Source: `ColorJitter` of torchvision.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax.data.augment.operations import blend, luminance, mean_of, shift_hue


def color_jitter(
    key: jax.Array,
    image: jax.Array,
    *,
    strength: Sequence[float],
    index_in_batch: jax.Array,
    batch_size: int,
) -> jax.Array:
    """Changes the colors of each image, in a random order of the four changes.

    The factors of brightness, contrast and saturation are uniform in
    [max(0, 1 - s), 1 + s], and the hue turns by a part of the circle in [-s, s].
    Randomness depends on (key, index in batch, batch size), not on sharding.

    Differs from the original in: the random numbers; what `shift_hue` says.

    Args:
      key: of this step.
      image: uint8 [B, H, W, 3].
      strength: s of brightness, contrast, saturation and hue; 0 everywhere returns the
        images as they are.
      index_in_batch: of each example, over all devices, [B] int32.
      batch_size: over all devices.

    Returns:
      uint8 [B, H, W, 3].
    """
    if not any(strength):
        return image

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        order_key, value_key = jax.random.split(key)
        order = jax.random.permutation(order_key, 4)
        values = drawn(value_key, strength)

        def step(image: jax.Array, which: jax.Array) -> tuple[jax.Array, None]:
            return adjust(image, which, values[which], hue=strength[3] > 0), None

        return jax.lax.scan(step, image, order)[0]

    keys = jax.random.split(key, batch_size)[index_in_batch]
    return jax.vmap(change)(keys, image)


def drawn(key: jax.Array, strength: Sequence[float]) -> jax.Array:
    """Draws the three factors and the turn of the hue, [4]."""
    uniform = jax.random.uniform(key, (4,))
    low = jnp.asarray([*(max(0, 1 - s) for s in strength[:3]), -strength[3]])
    high = jnp.asarray([*(1 + s for s in strength[:3]), strength[3]])
    return low + (high - low) * uniform


def adjust(
    image: jax.Array, which: jax.Array, value: jax.Array, *, hue: bool
) -> jax.Array:
    """Changes brightness (0), contrast (1), saturation (2) or hue (3) of an image.

    The hue changes only if it may: rounding changes an image whose hue turns by 0.
    """
    gray = luminance(image)
    degenerate = jnp.select(
        [which == 1, which == 2],
        [
            jnp.broadcast_to(mean_of(gray), image.shape),
            jnp.broadcast_to(gray[..., None], image.shape),
        ],
        jnp.uint8(0),
    )
    turned = shift_hue(image, jnp.where(which == 3, value, 0)) if hue else image
    return jnp.where(which == 3, turned, blend(degenerate, image, value))
