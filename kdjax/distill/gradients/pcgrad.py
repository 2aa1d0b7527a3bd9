"""PCGrad: Yu et al., "Gradient Surgery for Multi-Task Learning" (NeurIPS 2020).

Original: tianheyu927/PCGrad, `PCGrad_tf.py`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def without_conflict(task: Any, distillation: Any, *, epoch: jax.Array) -> Any:
    """Adds two gradients, each without what points against the other.

    If g_task . g_distillation < 0, over all parameters at once, each loses its
    projection on the other, g - (g . h) / |h|^2 h, before they are added. Otherwise it
    is the sum.

    Args:
      task: gradient of the task loss.
      distillation: gradient of the distillation loss, a tree of the same structure.
      epoch: not used.

    Returns:
      A tree of the same structure.
    """
    del epoch
    conflict = jnp.minimum(optax.tree.vdot(task, distillation), 0)

    def rest(gradient: Any) -> jax.Array:
        """Returns by how much of itself a gradient grows where the other gives way."""
        squared = optax.tree.norm(gradient, squared=True)
        return 1 - conflict / jnp.where(squared, squared, 1)

    return optax.tree.add(
        optax.tree.scale(rest(task), task),
        optax.tree.scale(rest(distillation), distillation),
    )
