"""WSLD: Zhou et al., "Rethinking Soft Labels for Knowledge Distillation: A
Bias-Variance Tradeoff Perspective" (ICLR 2021).

Original: bellymonster/Weighted-Soft-Label-Distillation, `knowledge_distiller.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.labels import of_target, require_labels
from kdjax.losses.numerics import require_equal_shapes
from kdjax.losses.softmax import log_softmax, require_positive_temperature

#: Added to the teacher's cross-entropy, as in the original.
_EPSILON = 1e-7


def wsld(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    temperature: float | jax.Array = 2.0,
) -> jax.Array:
    """Computes T^2 (1 - exp(-CE_student / CE_teacher)) times the soft cross-entropy.

    CE are the cross-entropies with the labels at temperature 1; the factor that they
    make has no gradient. Examples that the student fits better than the teacher count
    less.

    Source: the original's `WSLDistiller`, without the cross-entropy that it adds.
    Differs from the original in: nothing.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      label: true classes, [B] integers.
      temperature: T of the soft cross-entropy, -sum_i t_i log s_i.

    Returns:
      [B] in nats, float32 or wider.

    Raises:
      ValueError: if shapes, the label's type or the temperature are wrong.
    """
    require_equal_shapes("wsld", student_logits, teacher_logits)
    require_positive_temperature("wsld", temperature)
    require_labels("wsld", student_logits, label)
    logits = student_logits, teacher_logits
    of_student, of_teacher = (-of_target(log_softmax(x), label) for x in logits)
    weight = -jnp.expm1(-of_student / (of_teacher + _EPSILON))
    student, teacher = (log_softmax(x, temperature=temperature) for x in logits)
    cross_entropy = -jnp.sum(jnp.exp(teacher) * student, axis=-1)
    return temperature**2 * jax.lax.stop_gradient(weight) * cross_entropy
