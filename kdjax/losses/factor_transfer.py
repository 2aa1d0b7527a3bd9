"""FT: Kim et al., "Paraphrasing Complex Network: Network Compression via Factor
Transfer" (NeurIPS 2018).

Original: Jangho-Kim/Factor-Transfer-pytorch; as in HobbitLong/RepDistiller,
`FactorTransfer`.
"""

import jax

from kdjax.losses.attention_transfer import attention_map
from kdjax.losses.elementwise import l1
from kdjax.losses.numerics import l2_normalize, promote
from kdjax.losses.pooling import pool_larger


def flat_unit(x: jax.Array) -> jax.Array:
    """Makes each example one vector of length 1; zeros stay zero.

    Source: the paper's equation 3; original: `utils.py`, `FT`.
    Differs from the original in: an example of zeros has a gradient of zero.

    Args:
      x: [B, ...].

    Returns:
      [B, N], N entries an example, float32 or wider.
    """
    (x,) = promote(x)
    return l2_normalize(x.reshape(len(x), -1))


#: How a factor is normalized before it is compared.
TRANSFORMS = {"attention_map": attention_map, "flat_unit": flat_unit}


def factor_transfer(
    student: jax.Array, teacher: jax.Array, *, transform: str = "attention_map"
) -> jax.Array:
    """Mean absolute difference of two normalized factors.

    Normalized factors have length 1 whatever their size, so that the mean is inversely
    proportional to the square root of the number of entries.

    Source: the paper's equation 3; as in RepDistiller, `FactorTransfer`, with
    "attention_map"; original, with "flat_unit": `FT`.
    Differs from the original in: factors of zeros have a gradient of zero. Where sizes
    differ, the larger factor is averaged down first, as in RepDistiller.

    Args:
      student: the translator's factor, [B, H, W, C].
      teacher: the paraphraser's factor, [B, H', W', C].
      transform: "attention_map", or "flat_unit", which keeps the channels apart.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the widths differ with "flat_unit".
    """
    student, teacher = pool_larger(*promote(student, teacher))
    return l1(*map(TRANSFORMS[transform], (student, teacher)))
