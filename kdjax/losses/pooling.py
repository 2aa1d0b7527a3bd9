"""Average pooling of feature maps to equal sizes."""

import jax
import jax.numpy as jnp


def windows(before: int, after: int) -> list[tuple[int, int]]:
    """Returns start and end of the windows by which PyTorch pools a side adaptively.

    They overlap where `after` does not divide `before`.
    """
    return [(i * before // after, -(-(i + 1) * before // after)) for i in range(after)]


def pool_to(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Averages a feature map down to a size.

    Source: PyTorch's `adaptive_avg_pool2d`, by which RepDistiller and mdistiller match
    the maps of attention transfer and others.
    Differs from the original in: nothing.

    Args:
      x: feature map, [B, H, W, C].
      size: height and width of the result, neither larger than the map's.

    Returns:
      [B, *size, C] of the type of `x`.

    Raises:
      ValueError: if the map is smaller than the size.
    """
    if any(after > before for before, after in zip(x.shape[1:3], size, strict=True)):
        raise ValueError(f"pool_to: a map {x.shape} cannot be averaged down to {size}")
    for axis, (before, after) in enumerate(zip(x.shape[1:3], size, strict=True), 1):
        if before == after:
            continue
        if before % after == 0:
            shape = (*x.shape[:axis], after, before // after, *x.shape[axis + 1 :])
            x = jnp.mean(x.reshape(shape), axis + 1)
            continue
        x = jnp.stack(
            [
                jnp.mean(jax.lax.slice_in_dim(x, start, end, axis=axis), axis)
                for start, end in windows(before, after)
            ],
            axis,
        )
    return x


def pool_larger(student: jax.Array, teacher: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Averages the larger of two feature maps [B, H, W, C] down to the smaller.

    Height and width are matched each on its own; channels may differ.
    """
    size = tuple(map(min, student.shape[1:3], teacher.shape[1:3]))
    return pool_to(student, size), pool_to(teacher, size)
