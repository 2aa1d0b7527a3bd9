"""ReviewKD: Chen et al., "Distilling Knowledge via Knowledge Review" (CVPR 2021).

Original: dvlab-research/ReviewKD, `CIFAR-100/model/reviewkd.py`.
"""

import jax

from kdjax.losses.elementwise import mean_squared
from kdjax.losses.numerics import promote, require_equal_shapes
from kdjax.losses.pooling import pool_to

#: Heights and widths that maps are averaged down to.
_LEVELS = (4, 2, 1)


def hierarchical_context(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Averages squared differences of maps and of the maps averaged down.

    The map itself counts 1; averaged to 4x4, 2x2 and 1x1, where it is larger, 1/2 and
    so on; the sum is divided by that of these weights.

    Source: the paper's section 3.3; original: `hcl`.
    Differs from the original in: the mean stops at the example; the smaller side of a
    map that is not square decides how far it is averaged down.

    Args:
      student: feature map, [B, H, W, C].
      teacher: of the same shape.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("hierarchical_context", student, teacher)
    student, teacher = promote(student, teacher)
    loss, weight, total = mean_squared(student, teacher), 1.0, 1.0
    for level in _LEVELS:
        if level >= min(student.shape[1:3]):
            continue
        weight /= 2
        total += weight
        pooled = (pool_to(x, (level, level)) for x in (student, teacher))
        loss += weight * mean_squared(*pooled)
    return loss / total
