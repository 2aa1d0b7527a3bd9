"""Types, shapes and lengths: what all losses check and compute alike."""

import jax
import jax.numpy as jnp

#: Values that differ by at most this many roundings count as equal.
ROUNDINGS = 8


def promote(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Converts arrays to their common type, float32 at least."""
    dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
    return tuple(jnp.asarray(x, dtype) for x in arrays)


def require_equal_shapes(name: str, student: jax.Array, teacher: jax.Array) -> None:
    """Raises a ValueError that names the loss if the shapes differ."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"{name}: student {student.shape} and teacher {teacher.shape} differ"
        )


def l2_normalize(x: jax.Array, axis: int = -1) -> jax.Array:
    """Scales vectors to length 1; zero vectors stay zero, with a gradient of zero."""
    # Scaled first, or squares of large entries overflow and of small ones vanish.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis, keepdims=True))
    x = x / jnp.where(largest > 0, largest, 1)
    square = jnp.sum(jnp.square(x), axis, keepdims=True)
    return jnp.where(square > 0, x / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def center(x: jax.Array, axis: int = -1) -> jax.Array:
    """Subtracts the mean over an axis; values equal up to rounding become 0.

    So does their gradient: what rounding leaves of them has no direction to learn.
    """
    centered = x - jnp.mean(x, axis, keepdims=True)
    rounding = ROUNDINGS * jnp.finfo(x.dtype).eps
    largest, spread = (jnp.max(jnp.abs(a), axis, keepdims=True) for a in (x, centered))
    return jnp.where(spread > rounding * largest, centered, 0)
