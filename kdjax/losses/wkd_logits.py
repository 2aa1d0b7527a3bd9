"""WKD-L: Lv, Yang and Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for
Knowledge Distillation" (NeurIPS 2024).

Original: JiamingLv/WKD, `mdistiller/distillers/WKD.py`, and
`tools/generate_cost_matrix.py` for the costs.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.losses.labels import of_target, require_labels
from kdjax.losses.numerics import promote, require_equal_shapes
from kdjax.losses.relations import matmul
from kdjax.losses.softmax import log_softmax, require_positive_temperature

#: Added to costs and to denominators, as in the original.
_EPSILON = 1e-8


def class_costs(
    features: np.ndarray, label: np.ndarray, *, num_classes: int, sharpness: float = 1.0
) -> np.ndarray:
    """Computes 1 - exp(-sharpness (1 - CKA)) for each pair of classes.

    CKA is the linear centered kernel alignment of two classes' features, whose examples
    are paired in their order; of each class the first n count, where n is the number
    that the smallest class has.

    Source: the original's `linear_CKA_precenter` and `COST_MATRIX_SHARPEN`.
    Differs from the original in: classes whose features do not vary, or which have no
    examples, are at distance 1 from all others, where there the result is not a number.

    Args:
      features: of the teacher, [N, C], on the host.
      label: classes of the examples, [N] integers.
      num_classes: K.
      sharpness: 0 makes all costs 0.

    Returns:
      [K, K] float64, symmetric, with zeros on the diagonal.
    """
    features = np.asarray(features, np.float64)
    of_class = [features[label == k] for k in range(num_classes)]
    count = min((len(x) for x in of_class if len(x)), default=0)
    grams = np.zeros((num_classes, count * count))
    for k, x in enumerate(of_class):
        if len(x):
            centered = x[:count] - x[:count].mean(axis=0)
            grams[k] = (centered @ centered.T).ravel()
    lengths = np.linalg.norm(grams, axis=1, keepdims=True)
    # No variance but that of rounding.
    rounding = 1e-12 * np.square(features).sum() if len(features) else 0
    grams = np.where(lengths > rounding, grams / np.where(lengths > 0, lengths, 1), 0)
    costs = 1 - grams @ grams.T
    np.fill_diagonal(costs, 0)
    return -np.expm1(-sharpness * costs)


def transport_cost(
    student: jax.Array,
    teacher: jax.Array,
    start: jax.Array,
    *,
    cost: jax.Array,
    regularization: float,
    iterations: int,
) -> jax.Array:
    """Computes the cost of moving one distribution to another by Sinkhorn's iterations.

    Source: the original's `sinkhorn` and `wkd_logit_loss`.
    Differs from the original in: nothing; one matrix of costs for all examples.

    Args:
      student: probabilities, [B, K].
      teacher: probabilities, [B, K].
      start: of the student's scaling, [B, K].
      cost: [K, K].
      regularization: of the entropy.
      iterations: one or more.

    Returns:
      [B].
    """
    cost = jnp.maximum(cost, 0) + _EPSILON
    kernel = jnp.exp(-cost / regularization)
    u = start
    for _ in range(iterations):
        v = teacher / (matmul(u, kernel) + _EPSILON)
        u = student / (matmul(v, kernel.T) + _EPSILON)
    return jnp.sum(u * matmul(v, (kernel * cost).T), axis=-1)


def wkd_logits_terms(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    cost: jax.Array,
    gamma: float | jax.Array = 600.0,
    temperature: float | jax.Array = 8.0,
    regularization: float = 0.05,
    iterations: int = 10,
) -> dict[str, jax.Array]:
    """Returns the two summands of `wkd_logits`: `target_class` and `transport`."""
    require_equal_shapes("wkd_logits", student_logits, teacher_logits)
    require_positive_temperature("wkd_logits", temperature)
    require_labels("wkd_logits", student_logits, label)
    classes = student_logits.shape[-1]
    if cost.shape != (classes, classes):
        raise ValueError(f"wkd_logits: cost {cost.shape} is not of {classes} classes")
    student, teacher, cost = promote(student_logits, teacher_logits, cost)
    others = jnp.arange(classes)[None] != label[:, None]

    def probabilities(logits):
        """Returns those of the other classes, 0 for the true one."""
        low = jnp.finfo(logits.dtype).min
        largest = jnp.max(jnp.where(others, logits, low), axis=-1, keepdims=True)
        shifted = jnp.where(others, logits - jax.lax.stop_gradient(largest), 0)
        powers = jnp.where(others, jnp.exp(shifted / temperature), 0)
        return powers / jnp.sum(powers, axis=-1, keepdims=True)

    transport = transport_cost(
        probabilities(student),
        probabilities(teacher),
        others / jnp.asarray(classes - 1, cost.dtype),
        cost=cost,
        regularization=regularization,
        iterations=iterations,
    )
    of_student, of_teacher = (
        of_target(log_softmax(x), label) for x in (student, teacher)
    )
    return {
        "target_class": -jnp.exp(of_teacher) * of_student,
        "transport": gamma * transport,
    }


def wkd_logits(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    cost: jax.Array,
    gamma: float | jax.Array = 600.0,
    temperature: float | jax.Array = 8.0,
    regularization: float = 0.05,
    iterations: int = 10,
) -> jax.Array:
    """Computes -t_y log s_y + gamma W(s', t').

    s and t are the softmaxes of both networks at temperature 1, y is the true class; W
    is the entropic Wasserstein distance of s' and t', those at the given temperature
    over all classes but y.

    Source: the original's `wkd_logit_loss_with_speration`.
    Differs from the original in: the true class keeps its place, with a probability of
    0, so that one matrix of costs does for all examples: K x K numbers, where the
    original has B of them.

    Args:
      student_logits: [B, K].
      teacher_logits: [B, K].
      label: true classes, [B] integers.
      cost: between classes, [K, K], such as `class_costs`.
      gamma: weight of the other classes.
      temperature: which the true class does not see.
      regularization: of the entropy in W.
      iterations: Sinkhorn's.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if shapes, the label's type or the temperature are wrong.
    """
    terms = wkd_logits_terms(
        student_logits,
        teacher_logits,
        label,
        cost=cost,
        gamma=gamma,
        temperature=temperature,
        regularization=regularization,
        iterations=iterations,
    )
    return sum(terms.values())
