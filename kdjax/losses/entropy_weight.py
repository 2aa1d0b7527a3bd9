"""EA-KD: Su et al., "EA-KD: Entropy-based Adaptive Knowledge Distillation" (ICCV 2025).

Original: cpsu00/EA-KD, `mdistiller/distillers/KD_ours.py`.
"""

import math

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import require_equal_shapes
from kdjax.losses.softmax import log_softmax, require_positive_temperature


def entropy(log_p: jax.Array) -> jax.Array:
    """Computes the entropy of log probabilities over the last axis, in nats."""
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def entropy_weight(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    *,
    temperature: float | jax.Array = 3.0,
) -> jax.Array:
    """Weighs examples by H_t (1 + H_s / log K) / 2, with H the softmaxes' entropies.

    Multiply any loss of logits by it, example by example; it has no gradient:
    `entropy_weight(student, teacher) * kd(student, teacher, temperature=4.0)`.

    Source: the original's `get_w`.
    Differs from the original in: nothing is added inside the logarithm, 1e-10 there;
    the largest entropy is log K, as in the original's code of MLKD and of ImageNet,
    where that of KD and DKD on CIFAR-100 has K itself, so that the student's entropy
    hardly counts.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      temperature: of the softmaxes; the original's default of 3 on CIFAR-100.

    Returns:
      [B], float32 or wider; 0 for one class.

    Raises:
      ValueError: if the shapes differ or the temperature is not positive.
    """
    require_equal_shapes("entropy_weight", student_logits, teacher_logits)
    require_positive_temperature("entropy_weight", temperature)
    student, teacher = (
        entropy(log_softmax(x, temperature=temperature))
        for x in (student_logits, teacher_logits)
    )
    largest = math.log(max(student_logits.shape[-1], 2))
    return jax.lax.stop_gradient(teacher * (1 + student / largest) / 2)
