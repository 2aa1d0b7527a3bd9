"""Random crops and flips on the device."""

import jax
import jax.numpy as jnp
import numpy as np

#: A crop of random position, size and shape for each image, made on the host.
RANDOM_RESIZED = "random_resized"

#: Values of `data.crop`.
CROPS = ("per_image", "per_batch", RANDOM_RESIZED)

#: Values of `data.padding_mode`.
PADDING_MODES = ("reflect", "zero")


def random_crop_flip(
    key: jax.Array,
    image: jax.Array,
    *,
    index_in_batch: jax.Array,
    batch_size: int,
    padding: int,
    mode: str,
    flip: bool,
    crop: str = "per_image",
) -> jax.Array:
    """Pads the images, flips each with probability 1/2, and crops the original size.

    Randomness depends on (key, index in batch, batch size), not on sharding. The padded
    images are never materialized: crop, reflection and flip are one gather, or on a
    TPU, which gathers pixels slowly, two matrix products that select the same pixels.

    Source: the data loader of the overhaul paper: reflect padding, horizontal flip,
    random crop. Differs from the original in: nothing but the random numbers.

    Args:
      key: of this step.
      image: [B, H, W, 3].
      index_in_batch: of each example, over all devices, [B] int32.
      batch_size: over all devices.
      padding: pixels added on each side.
      mode: "reflect" (without repeating the border) or "zero".
      flip: whether to flip horizontally.
      crop: "per_batch" draws one crop for the batch, as in the code of MHGD; any other
        value draws one for each image.

    Returns:
      [B, H, W, 3] of the dtype of `image`.
    """
    height, width = image.shape[1:3]
    crop_key, flip_key = jax.random.split(key)
    offset = jax.random.randint(crop_key, (batch_size, 2), 0, 2 * padding + 1)
    offset = offset[:1] if crop == "per_batch" else offset[index_in_batch]
    row = offset[:, :1] - padding + np.arange(height)[None]
    column = offset[:, 1:] - padding + np.arange(width)[None]
    if flip:
        flipped = jax.random.bernoulli(flip_key, shape=(batch_size, 1))
        flipped = flipped[index_in_batch]
        column = jnp.where(flipped, width - 1 - column, column)
    # Of other types, bfloat16 does not hold every value.
    tpu = select_by_products if image.dtype == jnp.uint8 else select_by_gather
    cropped = jax.lax.platform_dependent(
        image,
        _inside(row, height),
        _inside(column, width),
        tpu=tpu,
        default=select_by_gather,
    )
    if mode == "zero":
        outside = (row != _inside(row, height))[:, :, None, None] | (
            column != _inside(column, width)
        )[:, None, :, None]
        cropped = jnp.where(outside, 0, cropped)
    return cropped


def _inside(coordinate: jax.Array, size: int) -> jax.Array:
    """Reflects coordinates at the first and the last pixel."""
    return size - 1 - jnp.abs(size - 1 - jnp.abs(coordinate))


def select_by_gather(image: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """Selects rows and columns of each image.

    Args:
      image: [B, H, W, C].
      row: numbers of the rows, [B, H] or [1, H].
      column: numbers of the columns, [B, W] or [1, W].
    """
    example = np.arange(image.shape[0])[:, None, None]
    return image[example, row[:, :, None], column[:, None, :]]


def select_by_products(
    image: jax.Array, row: jax.Array, column: jax.Array
) -> jax.Array:
    """Selects rows and columns of each image by products with matrices of 0 and 1.

    The result is that of `select_by_gather`, exactly: bfloat16 holds every value of a
    pixel, and each sum has one term that is not 0.

    Args:
      image: uint8, [B, H, W, C].
      row: see `select_by_gather`.
      column: see `select_by_gather`.
    """
    batch, height, width, _ = image.shape
    rows, columns = (
        jax.nn.one_hot(jnp.broadcast_to(index, (batch, size)), size, dtype=jnp.bfloat16)
        for index, size in ((row, height), (column, width))
    )
    selected = jnp.einsum("bhi,biwc->bhwc", rows, image.astype(jnp.bfloat16))
    selected = jnp.einsum("bwj,bhjc->bhwc", columns, selected)
    return selected.astype(image.dtype)
