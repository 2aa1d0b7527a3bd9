"""Hard-label distillation: Touvron et al., "Training Data-efficient Image Transformers
& Distillation through Attention" (ICML 2021), section 4.

Original: facebookresearch/deit, `losses.py`.
"""

import jax
import jax.numpy as jnp
import optax

from kdjax.losses.numerics import promote, require_equal_shapes


def hard_distillation(
    student_logits: jax.Array, teacher_logits: jax.Array
) -> jax.Array:
    """Computes -log s_c, of the class c that the teacher thinks most likely.

    s is the student's softmax. The teacher's decision takes the place of the label.

    Source: equation 3 of the paper; `DistillationLoss` of the original with
    `distillation_type="hard"`, without the cross-entropy of the label.
    Differs from the original in: nothing.

    Args:
      student_logits: [B, K]; in the paper those of the distillation token.
      teacher_logits: [B, K].

    Returns:
      [B] in nats, float32 or wider: a cross-entropy, which is not 0 for equal logits.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("hard_distillation", student_logits, teacher_logits)
    (student,) = promote(student_logits)
    decided = jnp.argmax(teacher_logits, axis=-1)
    return optax.softmax_cross_entropy_with_integer_labels(student, decided)
