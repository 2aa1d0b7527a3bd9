"""DeepKD: Huang et al., "DeepKD: A Deeply Decoupled and Denoised Knowledge Distillation
Trainer" (NeurIPS 2025).

Splits the divergence of KD as DKD does, for an optimizer that gives each part a
momentum of its own, and compares only those of the other classes that the teacher holds
most likely. Original: haiduo/DeepKD, `mdistiller/distillers/_base.py`, `deepkd_plugin`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.dkd import decouple
from kdjax.losses.labels import of_others, require_labels
from kdjax.losses.numerics import require_equal_shapes
from kdjax.losses.softmax import (
    kl_divergence,
    log_softmax,
    require_positive_temperature,
)

#: Stands for the logit of a class that is left out: its probability is 0.
_LEFT_OUT = -1e30


def deepkd_terms(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    temperature: float = 4.0,
    share: float | jax.Array = 1.0,
) -> dict[str, jax.Array]:
    """Computes T^2 TCKD and T^2 (1 - p_target) NCKD, whose sum is KD if share is 1.

    TCKD and NCKD are those of DKD, p_target is the teacher's. With a share below 1,
    NCKD is that of the most likely classes alone: of the other classes that are among
    the teacher's first share K.

    Source: the paper's equations of the three gradients and of its dynamic top-k mask.
    Differs from the original in: 1 - p_target weighs each example, where the original
    multiplies two means over the batch; the mask is used, which the original's KD
    passes on under a wrong name; all in logarithms, see `dkd.decouple`.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      label: target classes, [B] integers.
      temperature: T, by which the logits are divided.
      share: of the classes that are compared, in (0, 1]; rounded up to whole classes,
        two at least. May be traced.

    Returns:
      `target_class` and `non_target_class`, [B] each, in nats, float32 or wider.

    Raises:
      ValueError: if shapes, the label's type, the temperature or the share are wrong.
    """
    require_equal_shapes("deepkd", student_logits, teacher_logits)
    require_positive_temperature("deepkd", temperature)
    require_labels("deepkd", student_logits, label)
    if isinstance(share, (int, float)) and not 0 < share <= 1:
        raise ValueError(f"deepkd: share={share} is not in (0, 1]")
    (student, student_others), (teacher, teacher_others) = (
        decouple(x, label, temperature=temperature)
        for x in (student_logits, teacher_logits)
    )
    if not isinstance(share, (int, float)) or share < 1:
        kept = of_others(_likely(teacher_logits, share), label)
        student_others, teacher_others = (
            log_softmax(jnp.where(kept, of_others(x, label) / temperature, _LEFT_OUT))
            for x in (student_logits, teacher_logits)
        )
    nckd = kl_divergence(student_others, teacher_others)
    square = temperature**2
    return {
        "target_class": square * kl_divergence(student, teacher),
        "non_target_class": square * jnp.exp(teacher[:, 1]) * nckd,
    }


def _likely(logits: jax.Array, share: float | jax.Array) -> jax.Array:
    """Tells which classes are among the most likely, a share of all, [B, K]."""
    classes = logits.shape[1]
    count = jnp.ceil(jnp.asarray(share, jnp.float32) * classes).astype(jnp.int32)
    least = jnp.clip(count, min(2, classes), classes) - 1
    ordered = jnp.sort(logits, axis=1, descending=True)
    return logits >= jnp.take(ordered, least, axis=1)[:, None]
