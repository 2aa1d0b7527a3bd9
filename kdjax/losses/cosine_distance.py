"""PEFD: Chen et al., "Improved Feature Distillation via Projector Ensemble" (NeurIPS
2022).

Original: chenyd7/PEFD, `helper/loops.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import l2_normalize, promote, require_equal_shapes
from kdjax.losses.relations import require_vectors


def cosine_distance(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Computes 1 - cos of the angle between two vectors.

    Source: the original's `train_distill`.
    Differs from the original in: a vector of zeros is at distance 1, with a gradient of
    zero, where there the result is not a number.

    Args:
      student: [B, C].
      teacher: [B, C].

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ or are not of vectors.
    """
    require_equal_shapes("cosine_distance", student, teacher)
    require_vectors("cosine_distance", student, teacher)
    student, teacher = map(l2_normalize, promote(student, teacher))
    return 1 - jnp.sum(student * teacher, axis=-1)
