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
