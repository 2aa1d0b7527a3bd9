"""How the gradient of a method meets that of the task: rules by name.

A rule sees the gradients by the student's parameters only: the task does not reach what
methods learn, whose gradient is left as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from kdjax.distill.gradients.clip import clip_to_task
from kdjax.distill.gradients.min_norm import minimum_norm
from kdjax.distill.gradients.pcgrad import without_conflict

__all__ = ["RULES", "SUM", "Rule", "combine", "kept_apart", "register"]


class Rule(Protocol):
    """Makes one gradient of two."""

    def __call__(self, task: Any, distillation: Any, *, epoch: jax.Array) -> Any:
        """Combines two trees of the same structure into a third.

        Args:
          task: gradient of the task loss.
          distillation: gradient of the weighted distillation loss.
          epoch: complete epochs of the phase.
        """


#: The rule that takes no backward pass of its own.
SUM = "sum"


def _sum(task: Any, distillation: Any, *, epoch: jax.Array) -> Any:
    del epoch
    return optax.tree.add(task, distillation)


#: By name. None leaves the two apart: the optimizer has a momentum for each.
RULES: dict[str, Rule | None] = {
    SUM: _sum,
    "clip": clip_to_task,
    "min_norm": minimum_norm,
    "pcgrad": without_conflict,
    "dot": None,
}


def register(name: str) -> Callable[[Rule], Rule]:
    """Returns a decorator that adds a rule, which methods then choose by its name."""

    def add(rule: Rule) -> Rule:
        RULES[name] = rule
        return rule

    return add


def kept_apart(method: Any) -> bool:
    """Tells whether the optimizer needs a momentum of its own for a method."""
    return RULES[method.gradient_combination] is None


def combine(
    task: Any, distillation: Mapping[str, Any], *, epoch: jax.Array
) -> tuple[Any, Any | None]:
    """Lets the gradients of one step meet, rule by rule in the order of `RULES`.

    Args:
      task: gradient of the task loss and of the methods that are added to it, a tree
        with the entries `student` and `methods`; any tree without other methods.
      distillation: gradients of the other methods by their rule, summed, of the same
        structure.
      epoch: complete epochs of the phase.

    Returns:
      The gradient of everything; and that by the student's parameters which the
      optimizer keeps apart, None if there is none.
    """
    if not distillation:
        return task, None
    student, methods, apart = task["student"], task["methods"], None
    for name, rule in RULES.items():
        if name not in distillation:
            continue
        added = distillation[name]
        methods = jax.tree.map(jnp.add, methods, added["methods"])
        if rule is None:
            apart = added["student"]
        else:
            student = rule(student, added["student"], epoch=epoch)
    return {"student": student, "methods": methods}, apart
