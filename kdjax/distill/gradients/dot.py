"""DOT: Zhao et al., "DOT: A Distillation-Oriented Trainer" (ICCV 2023).

The optimizer keeps a momentum for each of the two gradients, and that of the
distillation lasts longer. Original: megvii-research/mdistiller, `engine/dot.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class TwoMomenta(NamedTuple):
    """State of `two_momenta`.

    Attributes:
      task: momentum of the gradients that are added up, a tree like the parameters.
      distillation: that of the gradient kept apart, a tree like the student's.
    """

    task: Any
    distillation: Any


def two_momenta(
    momentum: float, delta: float, *, nesterov: bool
) -> optax.GradientTransformationExtraArgs:
    """Replaces SGD's momentum by one for each of two gradients.

    v_task = (m - d) v_task + g_task, v_distillation = (m + d) v_distillation +
    g_distillation, and the update is v_task + v_distillation. Weight decay belongs to
    g_task. Parameters that the distillation does not reach, those that methods learn
    included, keep the momentum m. With d = 0 it is SGD on the sum.

    Differs from the original in: Nesterov's momentum, of each with its own factor, as
    a choice; parameters count as reached once their gradient was not 0 everywhere,
    where PyTorch knows whether they are part of the loss; those that the task does not
    reach decay in the first step, too.

    Args:
      momentum: m.
      delta: d, 0.075 on CIFAR-100 and 0.09 on ImageNet in the paper.
      nesterov: look ahead.

    Returns:
      A transformation of trees with the entry `student`, whose `update` takes the
      gradient kept apart as `distillation`.
    """

    def init(params):
        zeros = optax.tree.zeros_like(params)
        return TwoMomenta(zeros, optax.tree.zeros_like(params["student"]))

    def update(updates, state, params=None, *, distillation, **extra):
        del params, extra
        long = jax.tree.map(lambda _: momentum + delta, distillation)
        kept = _follow(distillation, long, state.distillation)
        short = jax.tree.map(lambda _: momentum, updates)
        short["student"] = jax.tree.map(
            lambda v: jnp.where(jnp.any(v != 0), momentum - delta, momentum), kept
        )
        task = _follow(updates, short, state.task)
        state = TwoMomenta(task, kept)
        if nesterov:
            task = _follow(updates, short, task)
            kept = _follow(distillation, long, kept)
        return task | {"student": optax.tree.add(task["student"], kept)}, state

    return optax.GradientTransformationExtraArgs(init, update)


def _follow(gradient: Any, factor: Any, momentum: Any) -> Any:
    """Returns gradient + factor * momentum of three trees of one structure."""
    return jax.tree.map(lambda g, f, v: g + f * v, gradient, factor, momentum)
