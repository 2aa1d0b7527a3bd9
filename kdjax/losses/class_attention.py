"""CAT-KD: Guo et al., "Class Attention Transfer Based Knowledge Distillation" (CVPR
2023).

Original: GzyAftermath/CAT-KD, `mdistiller/distillers/CAT_KD.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.elementwise import mean_squared
from kdjax.losses.numerics import l2_normalize, promote
from kdjax.losses.pooling import pool_to
from kdjax.losses.relations import require_equal_batches


def class_attention(
    student: jax.Array,
    teacher: jax.Array,
    *,
    student_kernel: jax.Array,
    teacher_kernel: jax.Array,
    resolution: int = 2,
    normalize: bool = False,
) -> jax.Array:
    """Averages the squared differences of two networks' class activation maps.

    The map of a class is the sum of the channels by its weights in the classifier,
    averaged down to a resolution.

    Source: the original's `CAT_loss`.
    Differs from the original in: maps are averaged before the classifier reads them,
    which is the same and less work; maps smaller than the resolution set it; a map of
    zeros has a gradient of zero.

    Args:
      student: last feature map, [B, H, W, C].
      teacher: last feature map, [B, H', W', C'].
      student_kernel: of the classifier, [C, K].
      teacher_kernel: of the classifier, [C', K].
      resolution: height and width that are compared.
      normalize: whether each class's map is scaled to length 1.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the batches or the numbers of classes differ.
    """
    require_equal_batches("class_attention", student, teacher)
    sides = zip(student.shape[1:3], teacher.shape[1:3], strict=True)
    size = tuple(min(resolution, *both) for both in sides)

    def maps(features, kernel):
        features, kernel = promote(pool_to(*promote(features), size), kernel)
        found = jnp.einsum(
            "bhwc,ck->bhwk", features, kernel, precision=jax.lax.Precision.HIGHEST
        )
        found = found.reshape(len(found), -1, found.shape[-1])
        return l2_normalize(found, axis=1) if normalize else found

    return mean_squared(maps(student, student_kernel), maps(teacher, teacher_kernel))
