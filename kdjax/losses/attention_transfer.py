"""AT: Zagoruyko and Komodakis, "Paying More Attention to Attention: Improving the
Performance of Convolutional Neural Networks via Attention Transfer" (ICLR 2017).

Original: szagoruyko/attention-transfer, `utils.py`; as in HobbitLong/RepDistiller,
`Attention`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.elementwise import mean_squared
from kdjax.losses.numerics import l2_normalize, promote
from kdjax.losses.pooling import pool_larger


def attention_map(x: jax.Array) -> jax.Array:
    """Averages the squares over channels and scales the map to length 1.

    Source: the paper's equation 2, p = 2; original: `at`.
    Differs from the original in: a map of zeros stays zero, with a gradient of zero.

    Args:
      x: feature map, [B, H, W, C].

    Returns:
      [B, H * W], float32 or wider.
    """
    (x,) = promote(x)
    return l2_normalize(jnp.mean(jnp.square(x), axis=-1).reshape(len(x), -1))


def attention_transfer(student_map: jax.Array, teacher_map: jax.Array) -> jax.Array:
    """Mean squared difference of two attention maps.

    Maps have length 1 whatever their size, so that the mean over positions is
    inversely proportional to their number.

    Source: the paper's section 3.1; original: `at_loss`.
    Differs from the original in: where sizes differ, the larger feature map is averaged
    down first, as in RepDistiller; a map of zeros has a gradient of zero.

    Args:
      student_map: feature map, [B, H, W, C].
      teacher_map: feature map, [B, H', W', C'].

    Returns:
      [B], float32 or wider.
    """
    student, teacher = pool_larger(*promote(student_map, teacher_map))
    return mean_squared(attention_map(student), attention_map(teacher))
