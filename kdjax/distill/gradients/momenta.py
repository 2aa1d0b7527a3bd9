"""Gradients that meet in the optimizer, each with a momentum of its own.

DOT: Zhao et al., "DOT: A Distillation-Oriented Trainer" (ICCV 2023), keeps the gradient
of the distillation apart, whose momentum lasts longer than that of the task. Original:
megvii-research/mdistiller, `engine/dot.py`.

DeepKD: Huang et al., "DeepKD: A Deeply Decoupled and Denoised Knowledge Distillation
Trainer" (NeurIPS 2025), keeps the terms of the target class and of the other classes
apart from the task and from each other. Original: haiduo/DeepKD, `engine/deepkd.py`.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

#: Name of the momentum of what is added up: the task, and methods of other rules.
TASK = "task"


class Momenta(NamedTuple):
    """State of `with_momenta`.

    Attributes:
      task: momentum of the gradients that are added up, a tree like the parameters.
      apart: those of the gradients kept apart, trees like the student's, by name.
    """

    task: Any
    apart: dict[str, Any]


def with_momenta(
    momentum: float, deltas: Mapping[str, float], *, nesterov: bool
) -> optax.GradientTransformationExtraArgs:
    """Replaces SGD's momentum by one for each of several gradients.

    v_i = (m + d_i) v_i + g_i for the task and for each gradient kept apart, and the
    update is the sum of all v_i. Weight decay belongs to the task. Parameters that no
    gradient kept apart reaches, those that methods learn included, keep the momentum m.
    With all d_i = 0 it is SGD on the sum.

    Differs from the originals in: Nesterov's momentum, of each with its own factor, as
    a choice; parameters count as reached once their gradient was not 0 everywhere,
    where PyTorch knows whether they are part of the loss; those that the task does not
    reach decay in the first step, too. The released code of DeepKD gives the task the
    momentum of the target class, never uses that of the task, and adds weight decay, of
    parameters that the other two have moved, to the gradient of the target class; here
    each gradient has its own momentum, as in the paper.

    Args:
      momentum: m.
      deltas: d_i, by the names of the gradients kept apart and `TASK`.
      nesterov: look ahead.

    Returns:
      A transformation of trees with the entry `student`, whose `update` takes the
      gradients kept apart as `apart`, by name.
    """
    factors = {name: momentum + delta for name, delta in deltas.items()}

    def follow(apart, momenta):
        return {
            name: optax.tree.add_scale(gradient, factors[name], momenta[name])
            for name, gradient in apart.items()
        }

    def init(params):
        apart = [name for name in factors if name != TASK]
        return Momenta(
            optax.tree.zeros_like(params),
            {name: optax.tree.zeros_like(params["student"]) for name in apart},
        )

    def update(updates, state, params=None, *, apart, **extra):
        del params, extra
        kept = follow(apart, state.apart)
        of_task = jax.tree.map(lambda _: momentum, updates)
        of_task["student"] = jax.tree.map(
            lambda *vs: jnp.where(
                functools.reduce(jnp.logical_or, [jnp.any(v != 0) for v in vs]),
                factors[TASK],
                momentum,
            ),
            *kept.values(),
        )
        task = _follow(updates, of_task, state.task)
        state = Momenta(task, kept)
        if nesterov:
            task = _follow(updates, of_task, task)
            kept = follow(apart, kept)
        student = optax.tree.add(task["student"], *kept.values())
        return task | {"student": student}, state

    return optax.GradientTransformationExtraArgs(init, update)


def _follow(gradient: Any, factor: Any, momentum: Any) -> Any:
    """Returns gradient + factor * momentum of three trees of one structure."""
    return jax.tree.map(lambda g, f, v: g + f * v, gradient, factor, momentum)
