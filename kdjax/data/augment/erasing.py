"""Random erasing: Zhong et al., "Random Erasing Data Augmentation" (AAAI 2020).

By the layer of Keras, the one kept library that has it for JAX.
"""

import functools
import os

import jax
import jax.numpy as jnp


def random_erasing(
    key: jax.Array,
    image: jax.Array,
    *,
    probability: float,
    index_in_batch: jax.Array,
    batch_size: int,
) -> jax.Array:
    """Covers a random rectangle of some images with the mean color.

    What example k of a batch draws depends on the key, k and the size of the batch,
    not on how the batch is spread over devices.

    Differs from the original in: the rectangle's width and height, as parts of the
    image's, are drawn independently, each the root of 2 to 33 % (its area is then 2 to
    33 % of the image, its aspect 1/4 to 4; the paper's 2 to 40 % and 3/10 to 10/3); and
    it is filled with the mean of the data set, the paper's variant RE-M.

    Args:
      key: randomness of this step.
      image: normalized, so that 0 is the mean color, [B, H, W, 3].
      probability: of each image to lose a rectangle; with 0 Keras is not imported.
      index_in_batch: of each example, over all devices, [B] int32.
      batch_size: over all devices.
    """
    if not probability:
        return image
    layer = _layer(probability)

    def erase(key, image):
        seed = jax.random.bits(key, (2,), jnp.uint32)
        erased, _ = layer.stateless_call([], [seed], image[None], training=True)
        return erased[0]

    return jax.vmap(erase)(jax.random.split(key, batch_size)[index_in_batch], image)


@functools.cache
def _layer(probability: float):
    # Keras reads its backend when it is first imported, and that takes seconds.
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    # Its only variable, a seed, is no part of a program that is being traced.
    with jax.ensure_compile_time_eval():
        layer = keras.layers.RandomErasing(
            factor=(probability, probability),
            fill_value=0.0,
            value_range=(-1.0, 1.0),  # That the fill value may have.
            data_format="channels_last",
            dtype="float32",
        )
        layer.build((None, None, None, 3))
    return layer
