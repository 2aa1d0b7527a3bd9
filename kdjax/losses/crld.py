"""CRLD: Zhang et al., "Cross-View Consistency Regularisation for Knowledge
Distillation" (ACM MM 2024).

Compares two views of an image within and across, where the teacher is sure. As in
haiduo/DeepKD, `mdistiller/distillers/CRLD.py`; the authors' own repository is gone.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import require_equal_shapes
from kdjax.losses.relations import require_vectors
from kdjax.losses.softmax import (
    kl_divergence,
    log_softmax,
    require_positive_temperature,
)


def crld_terms(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    second_student_logits: jax.Array,
    second_teacher_logits: jax.Array,
    *,
    temperature: float = 4.0,
    confidence: float = 0.9,
    second_confidence: float = 0.2,
) -> dict[str, jax.Array]:
    """Returns the divergences of two views from the teacher's views, within and across.

    `within_view` adds up KL(teacher || student) of the first views and of the second
    ones, for examples of whose first view the teacher is sure; `cross_view` that of
    each network's first view and the other's second, for examples of whose second view
    it is sure. All are times the temperature squared.

    Source: `CRLD.forward_train` of the code, without weights and cross-entropies.
    Differs from the original in: nothing.

    Args:
      student_logits: of the first, weakly augmented views, [B, K].
      teacher_logits: the same.
      second_student_logits: of the second, strongly augmented views, [B, K].
      second_teacher_logits: the same.
      temperature: of all divergences.
      confidence: least probability of the class that the teacher predicts for a first
        view; its temperature is 1.
      second_confidence: the same for a second view.

    Returns:
      `within_view` and `cross_view`, [B] each, float32 or wider.

    Raises:
      ValueError: if the shapes differ, or the temperature is not positive.
    """
    student = student_logits, second_student_logits
    teacher = teacher_logits, second_teacher_logits
    for logits in (*student, *teacher):
        require_equal_shapes("crld", student_logits, logits)
    require_vectors("crld", student_logits, teacher_logits)
    require_positive_temperature("crld", temperature)
    log_p = [log_softmax(x, temperature=temperature) for x in student]
    log_q = [log_softmax(x, temperature=temperature) for x in teacher]

    def divergence(pairs: list[tuple[int, int]]) -> jax.Array:
        found = (kl_divergence(log_p[s], log_q[t]) for s, t in pairs)
        return temperature**2 * sum(found)

    sure = [
        jnp.max(jnp.exp(log_softmax(x)), axis=-1) >= least
        for x, least in zip(teacher, (confidence, second_confidence), strict=True)
    ]
    return {
        "within_view": jnp.where(sure[0], divergence([(0, 0), (1, 1)]), 0),
        "cross_view": jnp.where(sure[1], divergence([(1, 0), (0, 1)]), 0),
    }
