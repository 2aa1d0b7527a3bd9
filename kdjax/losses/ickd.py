"""ICKD: Liu et al., "Exploring Inter-Channel Correlation for Diversity-Preserved
Knowledge Distillation" (ICCV 2021).

Original: ADLab-AutoDrive/ICKD, `Cifar100/distiller_zoo/ICKD.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import l2_normalize, promote
from kdjax.losses.relations import require_equal_batches


def ickd(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Compares how the channels of one example correlate.

    The products of every two channels over the positions make a matrix [C, C], whose
    rows are scaled to length 1; squared differences are summed, and divided by C.

    Source: the original's `ICKDLoss.batch_loss`, without its embedding.
    Differs from the original in: a channel of zeros has a gradient of zero, where there
    its row is divided by 1e-12.

    Args:
      student: feature map, [B, H, W, C].
      teacher: [B, H', W', C].

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if batches or channels differ.
    """
    require_equal_batches("ickd", student, teacher)
    if student.ndim != 4 or student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"ickd: student {student.shape} and teacher {teacher.shape} are not maps "
            "of equally many channels"
        )

    def correlations(x):
        products = jnp.einsum(
            "bhwc,bhwd->bcd", x, x, precision=jax.lax.Precision.HIGHEST
        )
        return l2_normalize(products)

    student, teacher = map(correlations, promote(student, teacher))
    return jnp.sum(jnp.square(student - teacher), axis=(1, 2)) / student.shape[-1]
