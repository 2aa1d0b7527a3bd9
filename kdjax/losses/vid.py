"""VID: Ahn et al., "Variational Information Distillation for Knowledge Transfer" (CVPR
2019).

Original: ssahn0215/variational-information-distillation; as in
HobbitLong/RepDistiller, `VIDLoss`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import promote, require_equal_shapes

#: Added to every variance.
MIN_VARIANCE = 1e-5


def vid(
    student: jax.Array, teacher: jax.Array, *, raw_variance: jax.Array
) -> jax.Array:
    """Averages -log N(teacher; student, variance) over the map, less a constant.

    Source: the paper's equations 5 and 6; as in RepDistiller, `VIDLoss.forward`.
    Differs from the original in: the mean stops at the example; large raw variances do
    not overflow.

    Args:
      student: the mean, regressed from the student's features, [B, H, W, C].
      teacher: feature map of the same shape.
      raw_variance: the variance is its softplus plus 1e-5, [C].

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("vid", student, teacher)
    student, teacher = promote(student, teacher)
    variance = jax.nn.softplus(raw_variance.astype(student.dtype)) + MIN_VARIANCE
    variance = variance[None, None, None, :]
    square = jnp.square(student - teacher)
    return jnp.mean((square / variance + jnp.log(variance)) / 2, axis=(1, 2, 3))
