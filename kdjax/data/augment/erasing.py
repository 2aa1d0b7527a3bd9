"""Random erasing: Zhong et al., "Random Erasing Data Augmentation" (AAAI 2020)."""

import jax
import jax.numpy as jnp
import numpy as np

#: Ranges of a rectangle's area over the image's, and of its height over its width.
_AREA = (0.02, 0.4)
_ASPECT = (0.3, 1 / 0.3)

#: Rectangles drawn for each image, of which the first that fits is taken.
_TRIALS = 64


def random_erasing(
    key: jax.Array,
    image: jax.Array,
    *,
    probability: float,
    index_in_batch: jax.Array,
    batch_size: int,
) -> jax.Array:
    """Erases a random rectangle of some images with the mean color.

    Area, aspect and corner of a rectangle are uniform; all of them are drawn again
    until the rectangle lies within the image (Algorithm 1). Small rectangles fit more
    often: on square images the mean area is 14 to 15 % of the image. Randomness depends
    on (key, index in batch, batch size), not on sharding.

    Differs from the original in: the rectangle is erased with the mean color of the
    data set, the paper's variant RE-M, not with random values; height and width are
    rounded to pixels, at least 1; of 64 draws none fits for fewer than one image in a
    million (of aspects from 1/2 to 2), where the first is clipped by the border. The
    authors' code (zhunzhong07/Random-Erasing) draws the corner last and only among
    those that fit, which gives larger rectangles, of 20 % in the mean.

    Args:
      key: of this step.
      image: normalized, so that 0 is the mean color, [B, H, W, 3].
      probability: of an image to be erased at all; 0 returns the images as they are.
      index_in_batch: of each example, over all devices, [B] int32.
      batch_size: over all devices.
    """
    if not probability:
        return image

    def erased(key: jax.Array) -> jax.Array:
        erase_key, box_key = jax.random.split(key)
        inside = _random_rectangle(box_key, image.shape[1], image.shape[2])
        return inside & jax.random.bernoulli(erase_key, probability)

    keys = jax.random.split(key, batch_size)[index_in_batch]
    return jnp.where(jax.vmap(erased)(keys)[..., None], 0, image)


def _random_rectangle(key: jax.Array, height: int, width: int) -> jax.Array:
    """Draws a rectangle within an image; returns its mask, [H, W] bool."""
    uniform = jax.random.uniform(key, (4, _TRIALS))
    area = height * width * (_AREA[0] + uniform[0] * (_AREA[1] - _AREA[0]))
    aspect = _ASPECT[0] + uniform[1] * (_ASPECT[1] - _ASPECT[0])
    rows = jnp.maximum(1, jnp.round(jnp.sqrt(area * aspect)))
    columns = jnp.maximum(1, jnp.round(jnp.sqrt(area / aspect)))
    top, left = jnp.floor(uniform[2] * height), jnp.floor(uniform[3] * width)
    fits = (top + rows <= height) & (left + columns <= width)
    first = jnp.argmax(fits)  # 0 if none fits.
    top, left, rows, columns = (x[first] for x in (top, left, rows, columns))
    row, column = np.arange(height), np.arange(width)
    in_rows = (top <= row) & (row < top + rows)
    in_columns = (left <= column) & (column < left + columns)
    return in_rows[:, None] & in_columns[None, :]
