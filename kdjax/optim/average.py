"""A moving average of the student, which is evaluated in its place."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.train_state import AVERAGE, TrainState, student_variables


def follow(train_step: Callable, decay: float) -> Callable:
    """Returns a training step that moves the average after its update.

    average = d average + (1 - d) student, parameters and running statistics alike, with
    d = min(decay, (1 + steps) / (10 + steps)), so that it forgets where it started. As
    `tf.train.ExponentialMovingAverage` with the number of updates.

    Args:
      train_step: `(state, frozen, batch) -> (state, metrics)`.
      decay: in (0, 1).
    """

    def step(state: TrainState, frozen: Any, batch: Any):
        stats = dict(state.batch_stats)
        average = stats.pop(AVERAGE)
        state, metrics = train_step(state.replace(batch_stats=stats), frozen, batch)
        done = state.step.astype(jnp.float32)
        kept = jnp.minimum(decay, (1 + done) / (10 + done))
        average = jax.tree.map(
            # What does not move stays exactly as it is.
            lambda a, x: jnp.where(
                a == x, x, (kept * a + (1 - kept) * x).astype(x.dtype)
            ),
            average,
            student_variables(state),
        )
        stats = state.batch_stats | {AVERAGE: average}
        return state.replace(batch_stats=stats), metrics

    return step
