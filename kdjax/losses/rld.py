"""RLD: Sun et al., "Knowledge Distillation with Refined Logits" (ICCV 2025).

Like DKD, but without the teacher's errors: its confidence is that in the class that it
predicts, and of the classes only those are compared that it thinks less likely than the
true one. Original: zju-SWJ/RLD, `mdistiller/distillers/RLD.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.dkd import decouple
from kdjax.losses.labels import of_target, require_labels
from kdjax.losses.numerics import promote, require_equal_shapes
from kdjax.losses.softmax import kl_divergence, require_positive_temperature


def _masked_divergence(
    student: jax.Array, teacher: jax.Array, kept: jax.Array, temperature: float
) -> jax.Array:
    """Computes KL(teacher || student) of softmaxes over the kept classes alone.

    It is 0, with a gradient of zero, where no class is kept.
    """

    def log_p(logits):
        low = jnp.finfo(logits.dtype).min
        largest = jnp.max(jnp.where(kept, logits, low), axis=-1, keepdims=True)
        shifted = logits - jax.lax.stop_gradient(largest)
        shifted = jnp.where(kept, shifted, 0) / temperature
        total = jnp.sum(jnp.where(kept, jnp.exp(shifted), 0), axis=-1, keepdims=True)
        return shifted - jnp.log(jnp.where(total > 0, total, 1))

    of_student, of_teacher = log_p(student), log_p(teacher)
    p = jnp.where(kept, jnp.exp(of_teacher), 0)
    return jnp.sum(p * (of_teacher - of_student), axis=-1)


def rld_terms(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float | jax.Array = 4.0,
    confidence_temperature: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """Returns the summands of `rld`: `sample_confidence` and `masked_correlation`."""
    require_equal_shapes("rld", student_logits, teacher_logits)
    for given in (temperature, confidence_temperature):
        require_positive_temperature("rld", given)
    require_labels("rld", student_logits, label)
    student_logits, teacher_logits = promote(student_logits, teacher_logits)
    predicted = jnp.argmax(teacher_logits, axis=-1)
    confidences = (
        decouple(logits, classes, temperature=confidence_temperature)[0]
        for logits, classes in ((student_logits, label), (teacher_logits, predicted))
    )
    kept = teacher_logits < of_target(teacher_logits, label)[:, None]
    masked = _masked_divergence(student_logits, teacher_logits, kept, temperature)
    confidence = kl_divergence(*confidences)
    return {
        "sample_confidence": alpha * confidence_temperature**2 * confidence,
        "masked_correlation": beta * temperature**2 * masked,
    }


def rld(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float | jax.Array = 4.0,
    confidence_temperature: float | jax.Array = 1.0,
) -> jax.Array:
    """Computes alpha T_c^2 SCD + beta T^2 MCD.

    SCD is the divergence of two probabilities, that of one class and of all others
    together: in the student of the true class, in the teacher of the one it predicts.
    MCD is the divergence over the classes whose logit in the teacher is less than the
    true class's. Where the teacher is right, this is `dkd`.

    Source: the original's `rld_loss`.
    Differs from the original in: all in logarithms, and masked classes left out, where
    the original lowers their logits to -1e9.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      label: true classes, [B] integers.
      alpha: weight of SCD.
      beta: weight of MCD.
      temperature: T of MCD.
      confidence_temperature: T_c of SCD.

    Returns:
      [B] in nats, float32 or wider.

    Raises:
      ValueError: if shapes, the label's type or a temperature are wrong.
    """
    terms = rld_terms(
        student_logits,
        teacher_logits,
        label,
        alpha=alpha,
        beta=beta,
        temperature=temperature,
        confidence_temperature=confidence_temperature,
    )
    return sum(terms.values())
