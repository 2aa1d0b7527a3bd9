"""How a distillation gradient meets the task gradient when it must not outweigh it.

Source: the code of KD-SVD and MHGD, sseung0703/KD_methods_with_TF: each variable's
distillation gradient is clipped to the norm of its task gradient, times a ramp over the
epochs. (The papers' posters print another formula, which taken literally never clips.)
"""

from typing import Any

import jax
import jax.numpy as jnp


def clip_to_task(task: Any, distillation: Any, *, epoch: jax.Array) -> Any:
    """Adds to each task gradient its distillation gradient, clipped to its norm.

    g = g_task + g_distillation n / max(|g_distillation|, n), where
    n = sigmoid(epoch) |g_task|, variable by variable. Weight decay stays outside: it
    is the optimizer's.

    Differs from the original in: a variable that neither gradient reaches gets 0, where
    the original divides 0 by 0.

    Args:
      task: gradients of the task loss.
      distillation: gradients of the distillation loss, a tree of the same structure.
      epoch: whole epochs since distillation started.

    Returns:
      A tree of the same structure.
    """

    def clip(task: jax.Array, distillation: jax.Array) -> jax.Array:
        ramp = jax.nn.sigmoid(jnp.asarray(epoch, task.dtype))
        bound = ramp * jnp.linalg.norm(task.ravel())
        largest = jnp.maximum(jnp.linalg.norm(distillation.ravel()), bound)
        return task + distillation * (bound / jnp.where(largest > 0, largest, 1))

    return jax.tree.map(clip, task, distillation)
