"""Squared and absolute differences, summed or averaged over an example."""

import jax
import jax.numpy as jnp

from kdjax.losses.numerics import promote, require_equal_shapes


def l2(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Sums squared differences over all axes but the first.

    Args:
      student: [B, ...].
      teacher: of the same shape.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("l2", student, teacher)
    student, teacher = promote(student, teacher)
    return jnp.sum(jnp.square(student - teacher), axis=tuple(range(1, student.ndim)))


def mean_squared(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Averages squared differences over all axes but the first.

    Args:
      student: [B, ...].
      teacher: of the same shape.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("mean_squared", student, teacher)
    student, teacher = promote(student, teacher)
    return jnp.mean(jnp.square(student - teacher), axis=tuple(range(1, student.ndim)))


def l1(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Averages absolute differences over all axes but the first.

    Args:
      student: [B, ...].
      teacher: of the same shape.

    Returns:
      [B], float32 or wider.

    Raises:
      ValueError: if the shapes differ.
    """
    require_equal_shapes("l1", student, teacher)
    student, teacher = promote(student, teacher)
    return jnp.mean(jnp.abs(student - teacher), axis=tuple(range(1, student.ndim)))
