"""DIST: Huang et al., "Knowledge Distillation from A Stronger Teacher" (NeurIPS 2022).

Matches Pearson correlations of probabilities instead of the probabilities: over the
classes of each example (inter-class), and over the examples of a batch for each class
(intra-class). Original: hunto/DIST_KD, `losses/dist_kd.py`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import center, require_equal_shapes
from kdjax.losses.relations import gather, require_vectors
from kdjax.losses.softmax import log_softmax, require_positive_temperature

#: Added to the product of the two lengths, as in the original: a class of almost no
#: probability in the entire batch has a correlation of almost 0.
_EPSILON = 1e-8


def correlation(x: jax.Array, y: jax.Array) -> jax.Array:
    """Computes Pearson's coefficient over the last axis, [N] for two [N, M].

    Source: the paper's equation 6; original: `pearson_correlation`.
    Differs from the original in: where all values of a row are equal up to rounding
    the result is 0 with a gradient of zero, where the original's gradient is not finite
    or as large as 1e8.
    """
    x, y = center(x), center(y)
    return jnp.sum(x * y, axis=-1) / (_length(x) * _length(y) + _EPSILON)


def _length(x: jax.Array) -> jax.Array:
    """Returns the length of vectors over the last axis; its gradient at 0 is zero."""
    square = jnp.sum(jnp.square(x), axis=-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def dist_terms(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float | jax.Array = 1.0,
    axis_name: str | None = None,
) -> dict[str, jax.Array]:
    """Returns the two summands of `dist`: `inter_class` and `intra_class`."""
    require_equal_shapes("dist", student_logits, teacher_logits)
    require_vectors("dist", student_logits, teacher_logits)
    require_positive_temperature("dist", temperature)
    student, teacher = (
        jnp.exp(log_softmax(x, temperature=temperature))
        for x in (student_logits, teacher_logits)
    )
    inter_class = 1 - correlation(student, teacher)
    of_classes = correlation(gather(student, axis_name).T, gather(teacher, axis_name).T)
    # The same for every example and device, so that its mean is the value.
    intra_class = jnp.broadcast_to(1 - jnp.mean(of_classes), inter_class.shape)
    square = temperature**2
    return {
        "inter_class": beta * square * inter_class,
        "intra_class": gamma * square * intra_class,
    }


def dist(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float | jax.Array = 1.0,
    axis_name: str | None = None,
) -> jax.Array:
    """Computes T^2 (beta (1 - inter-class) + gamma (1 - intra-class correlation)).

    Source: the paper's equations 9 to 11; original: `DIST.forward`.
    Differs from the original in: what `correlation` says; with an axis the examples of
    all devices are related, where the original relates those of one device.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      beta: weight of the correlation over the classes of each example.
      gamma: weight of the correlation over the batch, averaged over classes.
      temperature: T, called tau in the paper.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ or the temperature is not positive.
    """
    terms = dist_terms(
        student_logits,
        teacher_logits,
        beta=beta,
        gamma=gamma,
        temperature=temperature,
        axis_name=axis_name,
    )
    return sum(terms.values())
