"""SDD: Wei, Luo and Luo, "Scaled Decoupled Distillation" (CVPR 2024).

Original: shicaiwei123/SDD-CVPR2024, `mdistiller/distillers/KD.py` and `SDD_DKD.py`,
`mdistiller/models/cifar/utils.py`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import promote
from kdjax.losses.pooling import pool_to
from kdjax.losses.relations import matmul

#: Height and width that maps are averaged to before they are cut, as in the original.
_SIDE = 4


def region_logits(
    features: jax.Array, kernel: jax.Array, bias: jax.Array, *, levels: Sequence[int]
) -> jax.Array:
    """Classifies regions of a feature map by a network's last layer.

    Source: the original's `SPP`, and the lines that follow it in its networks.
    Differs from the original in: levels finer than the map are those of its positions,
    once each.

    Args:
      features: last feature map, [B, H, W, C].
      kernel: of the classifier, [C, K].
      bias: of the classifier, [K].
      levels: regions along each side; 1 is the whole map.

    Returns:
      Logits of all regions of each level, [B, R, K], float32 or wider.
    """
    features, kernel, bias = promote(features, kernel, bias)

    def pooled(x, level):
        return pool_to(x, tuple(min(level, side) for side in x.shape[1:3]))

    base = pooled(features, _SIDE)
    regions = [
        pooled(base, level).reshape(len(base), -1, base.shape[-1]) for level in levels
    ]
    return matmul(jnp.concatenate(regions, axis=1), kernel) + bias[None, None]


def complementary_weight(
    teacher_logits: jax.Array, label: jax.Array, *, weight: float = 2.0
) -> jax.Array:
    """Weighs regions that the teacher classifies right or wrong unlike the first.

    Source: the original's `sdd_kd_loss` and `multi_dkd`.
    Differs from the original in: nothing.

    Args:
      teacher_logits: of the regions, the whole map first, [B, R, K].
      label: true classes, [B] integers.
      weight: of such regions; others have 1.

    Returns:
      [B, R] float32.
    """
    right = jnp.argmax(teacher_logits, axis=-1) == label[:, None]
    return jnp.where(right == right[:, :1], 1.0, weight)
