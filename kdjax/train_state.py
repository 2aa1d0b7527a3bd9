"""Everything that changes in training, and nothing else."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

#: Where `batch_stats` has the moving average.
AVERAGE = "average"


@flax.struct.dataclass
class TrainState:
    """The state of a run between two steps.

    The teacher and what methods precompute from it never change and are not here.

    Attributes:
      step: updates made so far, int32.
      params: `student`, and under `methods` what each method learns, float32; without
        `student` while the methods pretrain on the teacher alone.
      batch_stats: running statistics in the same layout; under `method_state` what some
        methods keep between steps, which is the same on all devices; and under
        `average` the moving average of the student's variables, if there is one.
      opt_state: the optimizer's state.
    """

    step: jax.Array
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: Any


def create(
    student: Mapping[str, Any] | None,
    learned: Mapping[str, Mapping[str, Any]],
    optimizer: optax.GradientTransformation,
    *,
    average: bool = False,
) -> TrainState:
    """Returns the state before the first step.

    Args:
      student: variables of the student; None if it does not take part.
      learned: variables of each method; a missing collection is an empty one.
      optimizer: of all parameters.
      average: whether there is a moving average of the student, which starts from it.
    """
    params, batch_stats = (
        {"methods": {name: v.get(collection, {}) for name, v in learned.items()}}
        | ({} if student is None else {"student": student.get(collection, {})})
        for collection in ("params", "batch_stats")
    )
    states = {n: v["method_state"] for n, v in learned.items() if "method_state" in v}
    if states:
        batch_stats["method_state"] = states
    if average:
        own = {"params": params["student"], "batch_stats": batch_stats["student"]}
        # Not the same arrays, whose memory a step reuses.
        batch_stats[AVERAGE] = jax.tree.map(jnp.copy, own)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
    )


def student_variables(state: TrainState) -> dict[str, Any]:
    """Returns the student's collections `params` and `batch_stats`."""
    return {
        "params": state.params["student"],
        "batch_stats": state.batch_stats["student"],
    }


def evaluated_variables(state: TrainState) -> dict[str, Any]:
    """Returns the moving average if there is one, else the student."""
    return state.batch_stats.get(AVERAGE) or student_variables(state)
