"""DKD: Zhao et al., "Decoupled Knowledge Distillation" (CVPR 2022).

Splits the divergence of KD into a target-class part (TCKD) and a non-target-class part
(NCKD). KD weights NCKD by 1 - p_target of the teacher; here both have free weights.
Original: megvii-research/mdistiller, `distillers/DKD.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.labels import of_others, of_target, require_labels
from kdjax.losses.numerics import require_equal_shapes
from kdjax.losses.softmax import (
    kl_divergence,
    log_softmax,
    require_positive_temperature,
)


def decouple(
    logits: jax.Array, label: jax.Array, *, temperature: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Splits probabilities into the target class and the distribution of the others.

    Source: the paper's equations 1 to 3; original: the first half of `dkd_loss`.
    Differs from the original in: all in logarithms, where the original takes those of
    probabilities, which underflow from logit differences of 100 T on in float32; the
    target class is left out, where the original lowers its logit by 1000.

    Args:
      logits: [B, K].
      label: target classes, [B] integers.
      temperature: by which the logits are divided.

    Returns:
      Log probabilities of the target class and of all others together, [B, 2]; and
      those of each other class given that it is not the target, [B, K - 1].
    """
    log_p = log_softmax(logits, temperature=temperature)
    others = jax.nn.logsumexp(of_others(log_p, label), axis=1)
    return (
        jnp.stack([of_target(log_p, label), others], axis=1),
        log_softmax(of_others(logits, label), temperature=temperature),
    )


def dkd_terms(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float | jax.Array = 4.0,
) -> dict[str, jax.Array]:
    """Returns the two summands of `dkd`: `target_class` and `non_target_class`."""
    require_equal_shapes("dkd", student_logits, teacher_logits)
    require_positive_temperature("dkd", temperature)
    require_labels("dkd", student_logits, label)
    student, teacher = (
        decouple(x, label, temperature=temperature)
        for x in (student_logits, teacher_logits)
    )
    tckd, nckd = map(kl_divergence, student, teacher)
    square = temperature**2
    return {
        "target_class": alpha * square * tckd,
        "non_target_class": beta * square * nckd,
    }


def dkd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float | jax.Array = 4.0,
) -> jax.Array:
    """Computes T^2 (alpha TCKD + beta NCKD).

    Source: the paper's equation 7; original: `dkd_loss`.
    Differs from the original in: what `decouple` says.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      label: target classes, [B] integers.
      alpha: weight of the divergence of target class against the rest.
      beta: weight of the divergence among the other classes, which is always zero for
        two classes.
      temperature: T, by which the logits are divided.

    Returns:
      [B] in nats, float32 or wider.

    Raises:
      ValueError: if shapes, the label's type or the temperature are wrong.
    """
    terms = dkd_terms(
        student_logits,
        teacher_logits,
        label,
        alpha=alpha,
        beta=beta,
        temperature=temperature,
    )
    return sum(terms.values())
