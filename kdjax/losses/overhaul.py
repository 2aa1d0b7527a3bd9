"""OFD: Heo et al., "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019).

Original: clovaai/overhaul-distillation, `CIFAR-100/distiller.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.losses.numerics import promote, require_equal_shapes

#: Fraction of negative responses below which the authors do not divide by it.
_RARE = 0.001


def partial_l2(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Sums squared differences, except where student <= teacher <= 0.

    There the ReLU that follows sets both responses to zero, and the student is free.
    The value jumps only where the teacher crosses zero above a negative student.

    Source: the paper's d_p(T, S); original: `distillation_loss`.
    Differs from the original in: the sum stops at the example, where the original sums
    over the batch too.

    Args:
      student: features before the ReLU, after the connector, [B, ...].
      teacher: features after the margin ReLU, of the same shape.

    Returns:
      Sums over all axes but the first, [B], accumulated in float32 or wider whatever
      the type of the features: they reach 1e5.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("partial_l2", student, teacher)
    student, teacher = promote(student, teacher)
    counts = (student > teacher) | (teacher > 0)
    square = jnp.where(counts, jnp.square(student - teacher), 0)
    return jnp.sum(square, axis=tuple(range(1, square.ndim)))


def margin_relu(x: jax.Array, margin: jax.Array) -> jax.Array:
    """Clips each channel from below at its margin.

    Source: the paper's sigma_m(x) = max(x, m); original: `distillation_loss`.
    Differs from the original in: nothing.

    Args:
      x: feature map before its ReLU, [B, H, W, C].
      margin: one value a channel, negative as a rule, [C].

    Returns:
      A feature map of the shape and type of `x`.

    Raises:
      ValueError: if there is not one margin a channel.
    """
    if margin.shape != x.shape[-1:]:
        raise ValueError(f"margin_relu: margins {margin.shape} for features {x.shape}")
    return jnp.maximum(x, margin.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,)))


def margins(scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Computes E[F | F < 0] of responses F ~ N(bias, scale^2), channel by channel.

    Where fewer than one response in a thousand is negative, -3 |scale| is taken
    instead, as released. A channel with scale 0 always responds with its bias; its
    margin is the limit of the formula, min(bias, 0).

    Source: the paper's appendix A, equation 10; original: `get_margin_from_BN`.
    Differs from the original in: scale = 0, which raises there; the result stays
    float64, which is rounded to float32 there.

    Args:
      scale: gamma of the batch norm, of either sign, [C].
      bias: its beta, [C].

    Returns:
      Margins on the host, float64, [C]; negative wherever the scale is not 0.
    """
    # Imported here: everything else needs jax alone.
    from scipy import special

    sigma = np.abs(np.asarray(scale, np.float64))
    mean = np.asarray(bias, np.float64)
    # Overflow of z and underflow of the density are harmless limits here.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        z = mean / sigma
        density = np.exp(-np.square(z) / 2) / np.sqrt(2 * np.pi)
        negative = special.ndtr(-z)
        expected = mean - sigma * (density / negative)
        margin = np.where(negative > _RARE, expected, -3 * sigma)
    return np.where(sigma == 0, np.minimum(mean, 0), margin)
