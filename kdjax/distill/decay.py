"""Factors on a method's terms that depend on how far the training is."""

import jax
import jax.numpy as jnp


def cosine_decay(progress: jax.Array | float, start: float) -> jax.Array:
    """Returns 1 up to a fraction of the training, then falls to 0 by half a cosine.

    Args:
      progress: fraction of the training that is done, in [0, 1).
      start: fraction from which it falls; 1 for never.
    """
    passed = (progress - start) / max(1 - start, 1e-6)
    return (1 + jnp.cos(jnp.pi * jnp.clip(passed, 0, 1))) / 2
