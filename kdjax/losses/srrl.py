"""SRRL: Yang et al., "Knowledge Distillation via Softmax Regression Representation
Learning" (ICLR 2021).

Original: jingyang2017/KD_SRRL, `train_imagenet_distillation.py`.
"""

import jax

from kdjax.losses.elementwise import mean_squared
from kdjax.losses.numerics import promote
from kdjax.losses.relations import matmul, require_vectors


def srrl_terms(
    student: jax.Array,
    teacher: jax.Array,
    teacher_logits: jax.Array,
    *,
    kernel: jax.Array,
    bias: jax.Array,
) -> dict[str, jax.Array]:
    """Returns the two summands of `srrl`: `features` and `logits`."""
    require_vectors("srrl", student, teacher)
    student, kernel, bias = promote(student, kernel, bias)
    guessed = matmul(student, kernel) + bias[None]
    return {
        "features": mean_squared(student, teacher),
        "logits": mean_squared(guessed, teacher_logits),
    }


def srrl(
    student: jax.Array,
    teacher: jax.Array,
    teacher_logits: jax.Array,
    *,
    kernel: jax.Array,
    bias: jax.Array,
) -> jax.Array:
    """Adds the mean squared differences of features and of what they are classified as.

    The teacher's classifier reads both.

    Source: the original's `statm_loss`, and `train` beside it, without the connector.
    Differs from the original in: nothing.

    Args:
      student: pooled features in the teacher's width, [B, C].
      teacher: pooled features, [B, C].
      teacher_logits: [B, K].
      kernel: of the teacher's classifier, [C, K].
      bias: of the teacher's classifier, [K].

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    terms = srrl_terms(student, teacher, teacher_logits, kernel=kernel, bias=bias)
    return sum(terms.values())
