"""DTO-KD: Hayder et al., "DTO-KD: Dynamic Trade-off Optimization for Effective
Knowledge Distillation" (ICLR 2026).

The weights of two losses are those of the shortest mixture of their gradients, as in
Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization" (NeurIPS 2018).
The code of DTO-KD was not released.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def minimum_norm(task: Any, distillation: Any, *, epoch: jax.Array) -> Any:
    """Mixes two gradients so that the mixture is as short as possible.

    g = p g_task + (1 - p) g_distillation, with
    p = g_distillation . (g_distillation - g_task) / |g_task - g_distillation|^2
    clipped to [0, 1], over all parameters at once. A step along -g lowers both losses,
    or g is 0. It is 0 too where one of the gradients is.

    Args:
      task: gradient of the task loss.
      distillation: gradient of the distillation loss, a tree of the same structure; its
        length, and so the method's weight, decides over p.
      epoch: not used.

    Returns:
      A tree of the same structure.
    """
    del epoch
    difference = optax.tree.sub(distillation, task)
    squared = optax.tree.norm(difference, squared=True)
    share = optax.tree.vdot(distillation, difference) / jnp.where(squared, squared, 1)
    share = jnp.clip(share, 0, 1)
    return jax.tree.map(
        lambda a, b: share.astype(a.dtype) * a + (1 - share.astype(a.dtype)) * b,
        task,
        distillation,
    )
