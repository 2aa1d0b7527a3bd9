"""Distances d between a student's and a teacher's transformed features.

All are pure and have the form `(student, teacher, *, hyperparameters) -> [B]`: one
value an example, not reduced over the batch, not weighted, with no gradient stopped.
"""

import jax
import jax.numpy as jnp


def partial_l2(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Sums squared differences, except where student <= teacher <= 0.

    There both responses vanish in the ReLU that follows, and the student is free.
    The value jumps only where the teacher crosses zero above a negative student.

    Source: Heo et al., "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019),
    d_p(T, S); original: `distiller.py`, `distillation_loss`.
    Differs from the original in: the sum stops at the example, where the original sums
    over the batch too.

    Args:
      student: connected features, [B, ...].
      teacher: features after the margin ReLU, of the same shape.

    Returns:
      Sums over all axes but the first, [B], accumulated in float32 or wider whatever
      the type of the features: they reach 1e5.

    Raises:
      ValueError: if the shapes differ.
    """
    student, teacher = _wide("partial_l2", student, teacher)
    counts = (student > teacher) | (teacher > 0)
    square = jnp.where(counts, jnp.square(student - teacher), 0)
    return jnp.sum(square, axis=tuple(range(1, square.ndim)))


def l2(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Sums squared differences over all axes but the first, [B].

    Raises:
      ValueError: if the shapes differ.
    """
    student, teacher = _wide("l2", student, teacher)
    return jnp.sum(jnp.square(student - teacher), axis=tuple(range(1, student.ndim)))


def mean_squared(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Averages squared differences over all axes but the first, [B].

    Raises:
      ValueError: if the shapes differ.
    """
    student, teacher = _wide("mean_squared", student, teacher)
    return jnp.mean(jnp.square(student - teacher), axis=tuple(range(1, student.ndim)))


def l1(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Averages absolute differences over all axes but the first, [B].

    Raises:
      ValueError: if the shapes differ.
    """
    student, teacher = _wide("l1", student, teacher)
    return jnp.mean(jnp.abs(student - teacher), axis=tuple(range(1, student.ndim)))


def _wide(
    name: str, student: jax.Array, teacher: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns both in float32 or wider; raises a ValueError if the shapes differ."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"{name}: student {student.shape} and teacher {teacher.shape} differ"
        )
    wide = jnp.promote_types(jnp.result_type(student, teacher), jnp.float32)
    return student.astype(wide), teacher.astype(wide)


#: Distances that need nothing but the two, by the name used in `distance`.
DISTANCES = {"partial_l2": partial_l2, "l2": l2, "mean_squared": mean_squared, "l1": l1}
