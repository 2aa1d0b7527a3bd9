"""The released code of KD-SVD and MHGD.

Original: sseung0703/KD_methods_with_TF: the distillation gradient of each variable is
clipped to the norm of its task gradient, times a ramp over the epochs. (The papers'
posters print another formula, which taken literally never clips.)
"""

import collections
from typing import Any

import jax
import jax.numpy as jnp


def clip_to_task(task: Any, distillation: Any, *, epoch: jax.Array) -> Any:
    """Adds the distillation gradient to the task gradient, clipped to its norm.

    g = g_task + g_distillation n / max(|g_distillation|, n), where
    n = sigmoid(epoch) |g_task|, variable by variable. Weight decay stays outside: it
    is the optimizer's.

    Differs from the original in: a variable that neither gradient reaches gets 0, where
    the original divides 0 by 0.

    Args:
      task: gradients of the task loss.
      distillation: gradients of the distillation loss, a tree of the same structure.
      epoch: completed epochs since distillation started.

    Returns:
      A tree of the same structure.
    """
    ramp = jax.nn.sigmoid(jnp.asarray(epoch, float))

    def clip(
        task: jax.Array,
        distillation: jax.Array,
        task_norm: jax.Array,
        distillation_norm: jax.Array,
    ) -> jax.Array:
        bound = ramp.astype(task.dtype) * task_norm
        largest = jnp.maximum(distillation_norm, bound)
        return task + distillation * (bound / jnp.where(largest > 0, largest, 1))

    return jax.tree.map(clip, task, distillation, *_norms((task, distillation)))


def _norms(tree: Any) -> Any:
    """Computes the norm of every leaf, one reduction for all leaves of a shape.

    A network has some sixty variables of a dozen shapes, and a GPU launches a kernel
    for each reduction.
    """
    leaves, structure = jax.tree.flatten(tree)
    by_kind = collections.defaultdict(list)
    for index, leaf in enumerate(leaves):
        by_kind[leaf.shape, leaf.dtype].append(index)
    norms = {}
    for indices in by_kind.values():
        stacked = jnp.stack([leaves[index].ravel() for index in indices])
        norms |= dict(zip(indices, jnp.linalg.norm(stacked, axis=1), strict=True))
    return jax.tree.unflatten(structure, [norms[i] for i in range(len(leaves))])
