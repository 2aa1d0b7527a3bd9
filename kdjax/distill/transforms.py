"""Transforms T of feature maps, the T in d(T_t(F_t), T_s(F_s))."""

import jax
import jax.numpy as jnp


def margin_relu(x: jax.Array, margin: jax.Array) -> jax.Array:
    """Replaces what lies below a channel's margin by that margin.

    Source: Heo et al., "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019),
    sigma_m(x) = max(x, m); original: `distiller.py`, `distillation_loss`.
    Differs from the original in: nothing.

    Args:
      x: feature map before its ReLU, [B, H, W, C].
      margin: one value a channel, negative as a rule, [C].

    Returns:
      A feature map of the shape and type of `x`.
    """
    return jnp.maximum(x, margin.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,)))
