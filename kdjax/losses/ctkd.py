"""CTKD: Li et al., "Curriculum Temperature for Knowledge Distillation" (AAAI 2023).

Original: zhengli97/CTKD, `models/temp_global.py`, `helper/loops.py` and
`train_student.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.kd import kd


def curriculum(epoch: jax.Array | int, *, length: int = 10) -> jax.Array:
    """Returns the factor on the temperature's gradient, from 0 down to -1 by a cosine.

    Source: the original's `CosineDecay`, from `decay_max = 0` to `decay_min = -1`.
    Differs from the original in: nothing; there epochs count from 1.

    Args:
      epoch: complete epochs, from 0.
      length: epochs until the factor is -1.
    """
    done = jnp.minimum((epoch + 1) / length, 1)
    return (jnp.cos(jnp.pi * done) - 1) / 2


def ctkd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    *,
    theta: jax.Array,
    factor: float | jax.Array = -1.0,
    start: float = 1.0,
    span: float = 20.0,
) -> jax.Array:
    """Computes `kd` at the temperature start + span sigmoid(theta).

    The gradient by theta is multiplied by a factor: below 0, a descent of it makes the
    divergence larger, against the student.

    Source: the original's `Global_T` and `DistillKL`.
    Differs from the original in: what `kd` says.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      theta: learned number, [].
      factor: on its gradient, such as `curriculum`.
      start: temperature above which all are.
      span: of the temperatures.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    theta = factor * theta + jax.lax.stop_gradient((1 - factor) * theta)
    temperature = start + span * jax.nn.sigmoid(theta)
    return kd(student_logits, teacher_logits, temperature=temperature)
