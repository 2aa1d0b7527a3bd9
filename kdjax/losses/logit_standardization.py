"""Sun et al., "Logit Standardization in Knowledge Distillation" (CVPR 2024).

Original: sunshangquan/logit-standardization-KD.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import l2_normalize, promote


def standardize_logits(logits: jax.Array) -> jax.Array:
    """Scales and shifts the logits of each example to mean 0 and deviation 1.

    Apply it to both networks' logits before a loss of logits:
    `kd(standardize_logits(student), standardize_logits(teacher), temperature=2.0)`.

    Source: the paper's equation 9; original: `normalize`.
    Differs from the original in: nothing is added to the deviation, 1e-7 there; equal
    logits become 0, with a gradient of zero.

    Args:
      logits: [B, K].

    Returns:
      [B, K], float32 or wider. The deviation is the unbiased one, with K - 1.
    """
    (logits,) = promote(logits)
    centered = logits - jnp.mean(logits, axis=-1, keepdims=True)
    return (logits.shape[-1] - 1) ** 0.5 * l2_normalize(centered)
