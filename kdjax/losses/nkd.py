"""NKD: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A
Unified Approach with Normalized Loss and Customized Soft Labels" (ICCV 2023).

Original: yzd-v/cls_KD, `mmcls/models/dis_losses/nkd.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.labels import of_others, of_target, require_labels
from kdjax.losses.numerics import require_equal_shapes
from kdjax.losses.softmax import log_softmax, require_positive_temperature


def nkd_terms(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    gamma: float = 1.5,
    temperature: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """Returns the two summands of `nkd`: `target_class` and `non_target_class`."""
    require_equal_shapes("nkd", student_logits, teacher_logits)
    require_positive_temperature("nkd", temperature)
    require_labels("nkd", student_logits, label)
    logits = student_logits, teacher_logits
    student, teacher = (of_target(log_softmax(x), label) for x in logits)
    student_others, teacher_others = (
        log_softmax(of_others(x, label), temperature=temperature) for x in logits
    )
    cross_entropy = -jnp.sum(jnp.exp(teacher_others) * student_others, axis=-1)
    return {
        "target_class": -jnp.exp(teacher) * student,
        "non_target_class": gamma * temperature**2 * cross_entropy,
    }


def nkd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    gamma: float = 1.5,
    temperature: float | jax.Array = 1.0,
) -> jax.Array:
    """Computes -t_y log s_y - gamma T^2 sum_i t'_i log s'_i.

    s and t are the softmaxes of both networks at temperature 1, y is the true class; s'
    and t' those at temperature T over all classes but y.

    Source: the original's `NKDLoss`.
    Differs from the original in: nothing.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      label: true classes, [B] integers.
      gamma: weight of the other classes.
      temperature: T, which the true class does not see.

    Returns:
      [B] in nats, float32 or wider: cross-entropies, which are not 0 for equal logits.

    Raises:
      ValueError: if shapes, the label's type or the temperature are wrong.
    """
    terms = nkd_terms(
        student_logits, teacher_logits, label, gamma=gamma, temperature=temperature
    )
    return sum(terms.values())
