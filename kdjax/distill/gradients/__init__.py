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
from kdjax.distill.gradients.momenta import TASK
from kdjax.distill.gradients.pcgrad import without_conflict

__all__ = [
    "BY_TERM",
    "DOT",
    "RULES",
    "SUM",
    "Rule",
    "combine",
    "deltas",
    "register",
]


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

#: One momentum for the gradients of all methods of this rule together.
DOT = "dot"

#: A momentum for each term of a method, by the method's `momentum_deltas`.
BY_TERM = "by_term"


def _sum(task: Any, distillation: Any, *, epoch: jax.Array) -> Any:
    del epoch
    return optax.tree.add(task, distillation)


#: By name. None keeps gradients apart: the optimizer has a momentum for each.
RULES: dict[str, Rule | None] = {
    SUM: _sum,
    "clip": clip_to_task,
    "min_norm": minimum_norm,
    "pcgrad": without_conflict,
    DOT: None,
    BY_TERM: None,
}


def register(name: str) -> Callable[[Rule], Rule]:
    """Returns a decorator that adds a rule, which methods then choose by its name."""

    def add(rule: Rule) -> Rule:
        RULES[name] = rule
        return rule

    return add


def deltas(methods: Mapping[str, Any], delta: float) -> dict[str, float]:
    """Returns what is added to SGD's momentum for each gradient kept apart.

    Args:
      methods: by name.
      delta: `optimizer.momentum_delta`, of the rule "dot".

    Returns:
      By the names that `combine` gives these gradients, and for the task; empty if none
      is kept apart.

    Raises:
      ValueError: if two methods disagree about the task's, or one has no momenta.
    """
    found: dict[str, float] = {}
    for name, method in methods.items():
        if method.gradient_combination == DOT:
            added = {TASK: -delta, DOT: delta}
        elif method.gradient_combination == BY_TERM:
            if not method.momentum_deltas:
                raise ValueError(
                    f"methods.{name}.gradient_combination='{BY_TERM}' is for methods "
                    "with momenta of their terms, as deepkd"
                )
            added = {
                term if term == TASK else f"{name}/{term}": x
                for term, x in method.momentum_deltas.items()
            }
        else:
            continue
        if found.get(TASK, added[TASK]) != added[TASK]:
            raise ValueError(
                f"methods={list(methods)} want {found[TASK]} and {added[TASK]} added "
                "to the momentum of the task's gradient"
            )
        found |= added
    return found


def combine(
    task: Any, distillation: Mapping[str, Any], *, epoch: jax.Array
) -> tuple[Any, dict[str, Any]]:
    """Lets the gradients of one step meet, rule by rule in the order of `RULES`.

    Args:
      task: gradient of the task loss and of the methods that are added to it, a tree
        with the entries `student` and `methods`; any tree without other methods.
      distillation: gradients of the other methods by their rule, summed, or by method
        and term, as "deepkd/target_class", of the same structure.
      epoch: complete epochs of the phase.

    Returns:
      The gradient of everything; and those by the student's parameters which the
      optimizer keeps apart, by the same names.
    """
    if not distillation:
        return task, {}
    student, methods, apart = task["student"], task["methods"], {}
    order = [name for name in RULES if name in distillation]
    order += [name for name in distillation if name not in RULES]
    for name in order:
        added = distillation[name]
        methods = jax.tree.map(jnp.add, methods, added["methods"])
        if (rule := RULES.get(name)) is None:
            apart[name] = added["student"]
        else:
            student = rule(student, added["student"], epoch=epoch)
    return {"student": student, "methods": methods}, apart
