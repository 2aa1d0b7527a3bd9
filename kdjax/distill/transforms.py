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


def identity(x: jax.Array) -> jax.Array:
    """Leaves a feature as it is."""
    return x


def relu(x: jax.Array) -> jax.Array:
    """Replaces what is negative by 0; the gradient at 0 is 0."""
    return jax.nn.relu(x)


def attention_map(x: jax.Array) -> jax.Array:
    """Averages the squares over channels and scales the map to length 1.

    Source: Zagoruyko and Komodakis, "Paying More Attention to Attention" (ICLR 2017);
    original: szagoruyko/attention-transfer, `utils.py`, `at`.
    Differs from the original in: a map of zeros stays zero, with a gradient of zero.

    Args:
      x: feature map, [B, H, W, C].

    Returns:
      [B, H * W], float32 or wider.
    """
    return unit(jnp.mean(jnp.square(_wide(x)), axis=-1).reshape(len(x), -1))


def flat_unit(x: jax.Array) -> jax.Array:
    """Makes each example one vector of length 1; zeros stay zero.

    Source: Kim et al., "Paraphrasing Complex Network" (NeurIPS 2018); original:
    Jangho-Kim/Factor-Transfer-pytorch, `utils.py`, `FT`.
    Differs from the original in: an example of zeros has a gradient of zero.

    Args:
      x: [B, ...].

    Returns:
      [B, N], N entries an example, float32 or wider.
    """
    return unit(_wide(x).reshape(len(x), -1))


def channel_unit(x: jax.Array) -> jax.Array:
    """Scales each channel's map to length 1; a map of zeros stays zero.

    Source: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron
    Selectivity Transfer" (2017); as in RepDistiller, `NSTLoss`.
    Differs from the original in: a map of zeros has a gradient of zero.

    Args:
      x: feature map, [B, H, W, C].

    Returns:
      [B, H * W, C], float32 or wider.
    """
    return unit(_wide(x).reshape(len(x), -1, x.shape[-1]), axis=1)


def unit(x: jax.Array, axis: int = -1) -> jax.Array:
    """Scales vectors to length 1; zero vectors stay zero, with a gradient of zero."""
    # Scaled first, or squares of large entries overflow and of small ones vanish.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis, keepdims=True))
    x = x / jnp.where(largest > 0, largest, 1)
    square = jnp.sum(jnp.square(x), axis, keepdims=True)
    return x / jnp.sqrt(jnp.where(square > 0, square, 1))


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


#: Transforms by the name used in `teacher_transform` and `student_transform`.
TRANSFORMS = {
    "identity": identity,
    "relu": relu,
    "attention_map": attention_map,
    "channel_unit": channel_unit,
    "flat_unit": flat_unit,
    "margin_relu": margin_relu,
}
