"""AB: Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed
by Hidden Neurons" (AAAI 2019).

Original: bhheo/AB_distillation; as in HobbitLong/RepDistiller, `ABLoss`.
"""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import promote, require_equal_shapes


def activation_boundary(
    student: jax.Array, teacher: jax.Array, *, margin: float = 1.0
) -> jax.Array:
    """Sums squared shortfalls of the student from the teacher's side of zero.

    Where the teacher's neuron is active the student's response is to reach the margin,
    elsewhere to stay below minus the margin: max(margin -+ student, 0)^2.

    Source: the paper's equation 5; original: `criterion_alternative_L2`.
    Differs from the original in: the sum stops at the example, where the original sums
    over the batch too.

    Args:
      student: features before their ReLU, after the connector, [B, ...].
      teacher: features of the same shape; only whether they are positive matters.
      margin: mu of the paper.

    Returns:
      Sums over all axes but the first, [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("activation_boundary", student, teacher)
    student, teacher = promote(student, teacher)
    lacking = margin + jnp.where(teacher > 0, -student, student)
    square = jnp.square(jnp.maximum(lacking, 0))
    return jnp.sum(square, axis=tuple(range(1, square.ndim)))
