"""TTM and WTTM: Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher
Matching" (ICLR 2024).

The teacher's probabilities are softened by a power, the student's are left alone.
Original: zkxufo/TTM, `distiller_zoo/ttm.py` and `wttm.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import require_equal_shapes
from kdjax.losses.softmax import kl_divergence, log_softmax


def _divergence_and_log_sum(
    name: str, student_logits: jax.Array, teacher_logits: jax.Array, exponent: float
) -> tuple[jax.Array, jax.Array]:
    """Returns KL(q || student), and log sum_i t_i^exponent that normalizes q."""
    require_equal_shapes(name, student_logits, teacher_logits)
    if isinstance(exponent, (int, float)) and not exponent > 0:
        raise ValueError(f"{name}: exponent={exponent} is not above 0")
    student, teacher = map(log_softmax, (student_logits, teacher_logits))
    powers = exponent * teacher
    log_sum = jax.nn.logsumexp(powers, axis=-1, keepdims=True)
    return kl_divergence(student, powers - log_sum), log_sum[..., 0]


def ttm(
    student_logits: jax.Array, teacher_logits: jax.Array, *, exponent: float = 0.1
) -> jax.Array:
    """Computes KL(q || s), q_i = t_i^exponent / sum_j t_j^exponent.

    s and t are the softmaxes of both networks. q is the teacher's softmax at the
    temperature 1 / exponent.

    Source: the original's `TTM`.
    Differs from the original in: all in logarithms, which stay finite where
    probabilities underflow.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      exponent: gamma of the paper.

    Returns:
      [B] in nats, float32 or wider.

    Raises:
      ValueError: if the shapes differ or the exponent is not positive.
    """
    return _divergence_and_log_sum("ttm", student_logits, teacher_logits, exponent)[0]


def wttm(
    student_logits: jax.Array, teacher_logits: jax.Array, *, exponent: float = 0.2
) -> jax.Array:
    """Computes `ttm` times sum_i t_i^exponent, which grows with the teacher's doubt.

    Source: the original's `WTTM`.
    Differs from the original in: what `ttm` says.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      exponent: gamma of the paper.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ or the exponent is not positive.
    """
    divergence, log_sum = _divergence_and_log_sum(
        "wttm", student_logits, teacher_logits, exponent
    )
    return jnp.exp(log_sum) * divergence
