"""NST: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity
Transfer" (2017).

As in HobbitLong/RepDistiller, `NSTLoss`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import l2_normalize, promote
from kdjax.losses.pooling import pool_larger


def channel_unit(x: jax.Array) -> jax.Array:
    """Scales each channel's map to length 1; a map of zeros stays zero.

    Source: the paper's section 4.1; as in RepDistiller, `NSTLoss.nst_loss`.
    Differs from the original in: a map of zeros has a gradient of zero.

    Args:
      x: feature map, [B, H, W, C].

    Returns:
      [B, H * W, C], float32 or wider.
    """
    (x,) = promote(x)
    return l2_normalize(x.reshape(len(x), -1, x.shape[-1]), axis=1)


def polynomial_mmd(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Squared maximum mean discrepancy of channels, with the kernel (x . y)^2.

    mean k(t, t) + mean k(s, s) - 2 mean k(s, t) over all pairs of channels: it compares
    sets, so that neither their order nor their size has to agree. In float32 rounding
    can leave it as little as 1e-7 below zero.

    Source: the paper's equation 5, with the polynomial kernel of d = 2 and c = 0; as in
    RepDistiller, `NSTLoss.poly_kernel`.
    Differs from the original in: nothing.

    Args:
      student: channels as vectors over space, [B, ..., C_student].
      teacher: the same for the teacher, [B, ..., C_teacher].

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes without the last axis differ.
    """
    if student.shape[:-1] != teacher.shape[:-1]:
        raise ValueError(
            f"polynomial_mmd: student {student.shape} and teacher {teacher.shape} "
            "differ in more than channels"
        )
    student, teacher = (
        x.reshape(len(x), -1, x.shape[-1]) for x in promote(student, teacher)
    )

    def mean_kernel(x: jax.Array, y: jax.Array) -> jax.Array:
        # Differences of these means are small: products must not be rounded.
        products = jnp.einsum("bnc,bnd->bcd", x, y, precision=jax.lax.Precision.HIGHEST)
        return jnp.mean(jnp.square(products), axis=(1, 2))

    within = mean_kernel(teacher, teacher) + mean_kernel(student, student)
    return within - 2 * mean_kernel(student, teacher)


def nst(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Maximum mean discrepancy of the channels' maps, each scaled to length 1.

    Networks may have other widths.

    Source: the paper's section 4; as in RepDistiller, `NSTLoss`.
    Differs from the original in: a map of zeros has a gradient of zero. Where sizes
    differ, the larger map is averaged down first, as in RepDistiller.

    Args:
      student: feature map, [B, H, W, C].
      teacher: feature map, [B, H', W', C'].

    Returns:
      [B], float32 or wider.
    """
    student, teacher = pool_larger(*promote(student, teacher))
    return polynomial_mmd(channel_unit(student), channel_unit(teacher))
