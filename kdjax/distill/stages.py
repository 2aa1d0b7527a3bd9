"""Brings two networks' features to a common form: stages paired, sizes made equal."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def pool_to(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Averages a feature map down to a size.

    Source: PyTorch's `adaptive_avg_pool2d`, by which RepDistiller and mdistiller match
    maps of attention transfer and others; where the size divides, windows side by side.
    Differs from the original in: nothing.

    Args:
      x: [B, H, W, C].
      size: height and width of the result, neither larger than the map's.

    Returns:
      [B, *size, C] of the type of `x`.
    """
    for axis, (before, after) in enumerate(zip(x.shape[1:3], size, strict=True), 1):
        if before == after:
            continue
        starts = [i * before // after for i in range(after)]
        ends = [-(-(i + 1) * before // after) for i in range(after)]
        if before % after == 0:
            shape = (*x.shape[:axis], after, before // after, *x.shape[axis + 1 :])
            x = jnp.mean(x.reshape(shape), axis + 1)
        else:
            x = jnp.stack(
                [
                    jnp.mean(jax.lax.slice_in_dim(x, start, end, axis=axis), axis)
                    for start, end in zip(starts, ends, strict=True)
                ],
                axis,
            )
    return x


def pool_larger(
    student: Sequence[jax.Array], teacher: Sequence[jax.Array]
) -> list[tuple[jax.Array, jax.Array]]:
    """Pairs the stages, and averages the larger map of each down to the smaller.

    Args:
      student: maps [B, H, W, C].
      teacher: as many.

    Returns:
      A student's and a teacher's map of equal height and width for each stage.
    """
    pairs = []
    for ours, theirs in zip(student, teacher, strict=True):
        size = tuple(map(min, ours.shape[1:3], theirs.shape[1:3]))
        pairs.append((pool_to(ours, size), pool_to(theirs, size)))
    return pairs


def require_as_many(
    name: str, student: Sequence[jax.Array], teacher: Sequence[jax.Array]
) -> None:
    """Raises a ValueError if the networks have other numbers of stages.

    Args:
      name: of the method, for the error.
      student: features, one a stage.
      teacher: features, one a stage.
    """
    if len(student) != len(teacher):
        raise ValueError(
            f"methods.{name} needs as many stages in both networks: the student has "
            f"{len(student)}, the teacher {len(teacher)}"
        )
