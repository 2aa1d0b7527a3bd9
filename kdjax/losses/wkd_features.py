"""WKD-F: Lv, Yang and Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for
Knowledge Distillation" (NeurIPS 2024).

Original: JiamingLv/WKD, `mdistiller/distillers/WKD.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import promote
from kdjax.losses.pooling import windows
from kdjax.losses.relations import require_equal_batches

#: Added to variances, as in the original.
_EPSILON = 1e-5


def _moments(x: jax.Array, grid: int) -> tuple[jax.Array, jax.Array]:
    """Returns means and deviations of channels in each cell, [B, cells, C] each."""
    rows, columns = (windows(size, grid) for size in x.shape[1:3])
    cells = [x[:, slice(*row), slice(*column)] for row in rows for column in columns]
    means = [jnp.mean(cell, axis=(1, 2)) for cell in cells]
    variances = [
        jnp.sum(jnp.square(cell - mean[:, None, None]), axis=(1, 2))
        / max(cell.shape[1] * cell.shape[2] - 1, 1)
        for cell, mean in zip(cells, means, strict=True)
    ]
    deviations = [jnp.sqrt(variance + _EPSILON) for variance in variances]
    return jnp.stack(means, axis=1), jnp.stack(deviations, axis=1)


def wkd_features(
    student: jax.Array, teacher: jax.Array, *, mean_weight: float = 4.0, grid: int = 1
) -> jax.Array:
    """Computes the Wasserstein distance of two diagonal Gaussians, averaged over cells.

    In each cell of a grid over the map, each channel has a mean and a deviation over
    the positions: the squared differences of the means, times `mean_weight`, and of the
    deviations are summed over the channels.

    Source: the original's `wkd_feature_loss`.
    Differs from the original in: the deviation of a single position is that of a
    variance of 0, where there it is not a number.

    Args:
      student: feature map, [B, H, W, C].
      teacher: [B, H', W', C].
      mean_weight: of the means.
      grid: cells along each side.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if batches or channels differ.
    """
    require_equal_batches("wkd_features", student, teacher)
    if student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"wkd_features: student {student.shape} and teacher {teacher.shape} differ "
            "in channels"
        )
    student, teacher = (_moments(x, grid) for x in promote(student, teacher))
    means, deviations = (
        jnp.mean(jnp.sum(jnp.square(x - y), axis=-1), axis=-1)
        for x, y in zip(student, teacher, strict=True)
    )
    return mean_weight * means + deviations
