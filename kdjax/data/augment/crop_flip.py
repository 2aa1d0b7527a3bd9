"""Augmentation on the device: pure functions from uint8 pixels to network input."""

import jax
import jax.numpy as jnp
import numpy as np

#: A crop of random place, size and shape for each image, drawn where it is decoded.
RANDOM_RESIZED = "random_resized"

#: What draws a crop of its own, by the name used in `data.crop`.
CROPS = ("per_image", "per_batch", RANDOM_RESIZED)

#: How coordinates outside an image are filled, by the name used in `data.padding_mode`.
PADDING_MODES = ("reflect", "zero")


def random_crop_flip(
    key: jax.Array,
    image: jax.Array,
    *,
    position: jax.Array,
    batch_size: int,
    padding: int,
    mode: str,
    flip: bool,
    crop: str = "per_image",
) -> jax.Array:
    """Pads, mirrors half of the images and crops them back to their size.

    What example k of a batch draws depends on the key, k and the size of the batch,
    not on how the batch is spread over devices. Nothing padded is ever stored: crop,
    reflection and mirroring are one gather of coordinates.

    Source: the overhaul paper's loader: reflect padding, horizontal flip with
    probability 1/2, random crop. Differs from the original in: nothing but the random
    numbers.

    Args:
      key: randomness of this step.
      image: [B, H, W, 3].
      position: place of each example in the whole batch, [B] int32.
      batch_size: size of the whole batch over all devices.
      padding: pixels added on each side.
      mode: "reflect" (without repeating the border) or "zero".
      flip: whether to mirror left to right at all.
      crop: "per_batch": one place for all, as in the code of MHGD; or each its own.

    Returns:
      [B, H, W, 3] of the type of `image`.
    """
    height, width = image.shape[1:3]
    crop_key, flip_key = jax.random.split(key)
    offset = jax.random.randint(crop_key, (batch_size, 2), 0, 2 * padding + 1)
    offset = offset[position * 0 if crop == "per_batch" else position] - padding
    row = offset[:, :1] + np.arange(height)[None]
    column = offset[:, 1:] + np.arange(width)[None]
    if flip:
        mirrored = jax.random.bernoulli(flip_key, shape=(batch_size, 1))[position]
        column = jnp.where(mirrored, width - 1 - column, column)
    example = np.arange(image.shape[0])[:, None, None]
    cropped = image[
        example,
        _inside(row, height)[:, :, None],
        _inside(column, width)[:, None, :],
    ]
    if mode == "zero":
        outside = (row != _inside(row, height))[:, :, None, None] | (
            column != _inside(column, width)
        )[:, None, :, None]
        cropped = jnp.where(outside, 0, cropped)
    return cropped


def _inside(coordinate: jax.Array, size: int) -> jax.Array:
    """Reflects coordinates at the first and the last pixel."""
    return size - 1 - jnp.abs(size - 1 - jnp.abs(coordinate))
