"""Relations between the examples of a batch that may be spread over devices."""

import jax
import jax.numpy as jnp


def require_equal_batches(name: str, student: jax.Array, teacher: jax.Array) -> None:
    """Raises a ValueError that names the loss unless both are [B, ...] of one B."""
    if student.ndim < 2 or teacher.ndim < 2 or len(student) != len(teacher):
        raise ValueError(
            f"{name}: student {student.shape} and teacher {teacher.shape} are not two "
            "features of one batch"
        )


def require_vectors(name: str, student: jax.Array, teacher: jax.Array) -> None:
    """Raises a ValueError that names the loss unless both are [B, C] of one B."""
    require_equal_batches(name, student, teacher)
    if student.ndim != 2 or teacher.ndim != 2:
        raise ValueError(
            f"{name}: student {student.shape} and teacher {teacher.shape} are not "
            "vectors, [B, C]"
        )


def gather(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns the examples of all devices, [B_all, ...] for [B, ...].

    Args:
      x: this device's examples.
      axis_name: mapped axis over which the batch is spread; None for no such axis.
    """
    if axis_name is None:
        return x
    return jax.lax.all_gather(x, axis_name, tiled=True)


def global_index(size: int, axis_name: str | None) -> jax.Array:
    """Returns the indices of this device's examples among all, [size]."""
    index = jnp.arange(size)
    if axis_name is not None:
        index += size * jax.lax.axis_index(axis_name)
    return index


def global_sum(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns the sum of all entries of `x` on all devices, a scalar."""
    total = jnp.sum(x)
    return total if axis_name is None else jax.lax.psum(total, axis_name)


def matmul(x: jax.Array, y: jax.Array) -> jax.Array:
    """Multiplies matrices in the full precision of their type.

    Losses compare small differences of products, which the short types that
    accelerators use by default would drown.
    """
    return jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)
