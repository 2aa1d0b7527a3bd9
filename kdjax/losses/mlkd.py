"""MLKD: Jin, Wang and Lin, "Multi-Level Logit Distillation" (CVPR 2023).

Compares probabilities at several temperatures on three levels: of each example, of
pairs of examples, and of pairs of classes. Original:
Jin-Ying/Multi-Level-Logit-Distillation, `distillers/KD_ours.py`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import require_equal_shapes
from kdjax.losses.relations import gather, matmul, require_vectors
from kdjax.losses.softmax import (
    kl_divergence,
    log_softmax,
    require_positive_temperature,
)

#: Temperatures at which the paper compares probabilities.
TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)


def mlkd_terms(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    axis_name: str | None = None,
) -> dict[str, jax.Array]:
    """Returns the summands of `mlkd` by level, each summed over the temperatures.

    They are `divergence`, `batch_correlation` and `class_correlation`, [B] each.
    """
    require_equal_shapes("mlkd", student_logits, teacher_logits)
    require_vectors("mlkd", student_logits, teacher_logits)
    if not temperatures:
        raise ValueError("mlkd: temperatures=() needs one or more")
    own = student_logits, teacher_logits
    gathered = [gather(x, axis_name) for x in own]
    levels = []
    for temperature in temperatures:
        require_positive_temperature("mlkd", temperature)
        log_p = [log_softmax(x, temperature=temperature) for x in own]
        p = [jnp.exp(x) for x in log_p]
        all_p = [jnp.exp(log_softmax(x, temperature=temperature)) for x in gathered]
        # This device's examples with all, and the classes over all examples.
        pairs = [matmul(x, y.T) for x, y in zip(p, all_p, strict=True)]
        classes = [matmul(x.T, x) for x in all_p]
        of_pairs, of_classes = (
            jnp.sum(jnp.square(student - teacher), axis=-1)
            for student, teacher in (pairs, classes)
        )
        levels.append(
            {
                "divergence": temperature**2 * kl_divergence(*log_p),
                "batch_correlation": of_pairs,
                "class_correlation": jnp.broadcast_to(
                    jnp.mean(of_classes), of_pairs.shape
                ),
            }
        )
    return jax.tree.map(lambda *terms: sum(terms), *levels)


#: Those at which the released code compares the second views, too.
SECOND_TEMPERATURES = (3.0, 4.0, 5.0)


def mlkd_two_view_terms(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    second_student_logits: jax.Array,
    second_teacher_logits: jax.Array,
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    second_temperatures: Sequence[float] = SECOND_TEMPERATURES,
    confidence_logits: jax.Array | None = None,
    axis_name: str | None = None,
) -> dict[str, jax.Array]:
    """Returns the summands of `mlkd` on two views of each image, as the code has them.

    The released code multiplies sums by masks of examples, or of classes, that the
    teacher is less sure of than the median, which leaves the share that the mask has:
    about a half. The second view enters the divergence alone, at some temperatures; at
    the others the first view is taken once more.

    Source: `KD_ours.forward_train` of the original, without its cross-entropies.
    Differs from the original in: nothing; the paper's text compares the second view on
    every level, and its masks select.

    Args:
      student_logits: of the first views, [B, K].
      teacher_logits: the same.
      second_student_logits: of the second views, [B, K].
      second_teacher_logits: the same.
      temperatures: at which the first views are compared.
      second_temperatures: those of them at which the second views are compared.
      confidence_logits: of the teacher and the first views, by which it is sure of
        them, [B, K]; None for `teacher_logits`.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      `divergence`, `batch_correlation` and `class_correlation`, [B] each.

    Raises:
      ValueError: as `mlkd`, or if second temperatures are not among the others.
    """
    if not set(second_temperatures) < set(temperatures):
        raise ValueError(
            f"mlkd: second_temperatures={tuple(second_temperatures)} are not some of "
            f"temperatures={tuple(temperatures)}, but not all"
        )
    first = student_logits, teacher_logits
    if confidence_logits is None:
        confidence_logits = teacher_logits
    probability = jnp.exp(log_softmax(gather(confidence_logits, axis_name)))
    of_examples = _unsure_share(jnp.max(probability, axis=-1))
    of_classes = _unsure_share(jnp.sum(probability, axis=0))
    terms = mlkd_terms(*first, temperatures=temperatures, axis_name=axis_name)
    again = [t for t in temperatures if t not in second_temperatures]
    repeated = mlkd_terms(*first, temperatures=again, axis_name=axis_name)
    second = mlkd_terms(
        second_student_logits,
        second_teacher_logits,
        temperatures=second_temperatures,
        axis_name=axis_name,
    )
    return {
        "divergence": of_examples * terms["divergence"]
        + repeated["divergence"]
        + second["divergence"],
        "batch_correlation": of_examples * terms["batch_correlation"],
        "class_correlation": of_classes * terms["class_correlation"],
    }


def _unsure_share(confidence: jax.Array) -> jax.Array:
    """Returns which part of some numbers [N] is not above their median."""
    return jnp.mean(confidence <= jnp.median(confidence), dtype=confidence.dtype)


def mlkd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    axis_name: str | None = None,
) -> jax.Array:
    """Sums divergence, batch and class correlation over temperatures.

    With S and T the probabilities of student and teacher for the batch, [B, K], these
    are `kd`, ||S S' - T T'||^2 / B and ||S' S - T' T||^2 / K; the last is the same for
    every example.

    Source: the paper's equations 4 to 7; original: `kd_loss`, `bc_loss` and `cc_loss`.
    Differs from the original in: one view of an image, where the original adds a
    strongly augmented one; no confidence masks, which there multiply sums, select no
    examples, and amount to a factor of about a half.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      temperatures: at which probabilities are compared.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ, or there is no temperature or one that is not
        positive.
    """
    terms = mlkd_terms(
        student_logits, teacher_logits, temperatures=temperatures, axis_name=axis_name
    )
    return sum(terms.values())
