"""KD: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).

The authors released no code; the form is that of HobbitLong/RepDistiller,
`DistillKL`, and megvii-research/mdistiller, `kd_loss`.
"""

import jax

from kdjax.losses.numerics import require_equal_shapes
from kdjax.losses.softmax import (
    kl_divergence,
    log_softmax,
    require_positive_temperature,
)


def kd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    *,
    temperature: float | jax.Array = 4.0,
) -> jax.Array:
    """Computes T^2 KL(softmax(teacher / T) || softmax(student / T)).

    The factor T^2 keeps the size of the gradients when T changes.

    Source: the paper's section 2; as in RepDistiller, `DistillKL`.
    Differs from the original in: the paper averages gradients of a cross-entropy with
    the teacher's probabilities, which equal those of the divergence; all in logarithms,
    which stay finite where probabilities underflow.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      temperature: T, by which the logits are divided.

    Returns:
      Divergences in nats times T^2, [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ or the temperature is not positive.
    """
    require_equal_shapes("kd", student_logits, teacher_logits)
    require_positive_temperature("kd", temperature)
    student, teacher = (
        log_softmax(x, temperature=temperature)
        for x in (student_logits, teacher_logits)
    )
    return temperature**2 * kl_divergence(student, teacher)


def symmetric_kl(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """Computes (KL(teacher || student) + KL(student || teacher)) / 2 of softmaxes.

    Source: sseung0703/KD_methods_with_TF, `DML`, the form of mutual learning that was
    released with MHGD.
    Differs from the original in: nothing.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K]; the other network's in mutual learning.

    Returns:
      [B] in nats, float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("symmetric_kl", student_logits, teacher_logits)
    student, teacher = map(log_softmax, (student_logits, teacher_logits))
    return (kl_divergence(student, teacher) + kl_divergence(teacher, student)) / 2
