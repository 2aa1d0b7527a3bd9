"""FSP: Yim et al., "A Gift from Knowledge Distillation: Fast Optimization, Network
Minimization and Transfer Learning" (CVPR 2017).

As in HobbitLong/RepDistiller, `FSP`, and sseung0703/KD_methods_with_TF, `FSP`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.elementwise import l2, mean_squared
from kdjax.losses.numerics import promote
from kdjax.losses.pooling import pool_larger


def _max_pool_larger(lower: jax.Array, upper: jax.Array) -> tuple[jax.Array, jax.Array]:
    sizes = lower.shape[1:3], upper.shape[1:3]
    if any(max(pair) % min(pair) for pair in zip(*sizes, strict=True)):
        raise ValueError(
            "fsp: pool='max' needs sizes that divide each other, not "
            f"{sizes[0]} and {sizes[1]}"
        )

    size = tuple(map(min, *sizes))

    def pooled(x: jax.Array) -> jax.Array:
        window = tuple(n // m for n, m in zip(x.shape[1:3], size, strict=True))
        window = (1, *window, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")

    return pooled(lower), pooled(upper)


#: How two adjacent stages of one network are brought to one height and width.
POOLS = {"mean": pool_larger, "max": _max_pool_larger}

#: How two matrices are compared.
DISTANCES = {"mean_squared": mean_squared, "l2": l2}


def fsp_matrix(lower: jax.Array, upper: jax.Array, *, pool: str = "mean") -> jax.Array:
    """Averages over space the products of two stages' channels.

    Source: the paper's equation 1; as in RepDistiller, `FSP.compute_fsp`, with "mean".
    Differs from the original in: nothing.

    Args:
      lower: feature map, [B, H, W, C_lower].
      upper: the map of the next stage, [B, H', W', C_upper].
      pool: "mean" or "max", how the larger of the two is brought to the smaller.

    Returns:
      [B, C_lower, C_upper], float32 or wider.

    Raises:
      ValueError: if `pool` is "max" and the sizes do not divide each other.
    """
    lower, upper = POOLS[pool](*promote(lower, upper))
    products = jnp.einsum(
        "bhwc,bhwd->bcd", lower, upper, precision=jax.lax.Precision.HIGHEST
    )
    return products / (lower.shape[1] * lower.shape[2])


def fsp(
    student: tuple[jax.Array, jax.Array],
    teacher: tuple[jax.Array, jax.Array],
    *,
    pool: str = "mean",
    distance: str = "mean_squared",
) -> jax.Array:
    """Difference of two networks' matrices between two adjacent stages.

    Source: the paper's equation 2; as in RepDistiller, `FSP`, with the defaults; as in
    KD_methods_with_TF, which has half of it by 1e-3, with "max" and "l2".
    Differs from the original in: nothing.

    Args:
      student: two adjacent feature maps, [B, H, W, C_lower] and [B, H', W', C_upper].
      teacher: two maps of the same widths; the sizes may differ.
      pool: "mean" or "max", how the larger map of a network is brought to the smaller.
      distance: "mean_squared" of the entries, or "l2", their sum of squares.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the widths differ, or the sizes do not suit `pool`.
    """
    matrices = (fsp_matrix(*maps, pool=pool) for maps in (student, teacher))
    return DISTANCES[distance](*matrices)
