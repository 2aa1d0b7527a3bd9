"""A phase of a run: a stretch of training with one objective and one optimizer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax import optim, train_state
from kdjax import step as step_lib
from kdjax.data.pipeline.batches import Batch, TrainBatches
from kdjax.metrics import Sums
from kdjax.objective import Frozen, Objective
from kdjax.train_state import TrainState


class Start(NamedTuple):
    """What a phase starts from.

    Attributes:
      student: variables of the student; None if it does not take part.
      learned: variables of each method that learns in this phase, by name.
      frozen: what the step reads.
    """

    student: Any
    learned: Mapping[str, Any]
    frozen: Frozen


class Phase:
    """A stretch of training whose step is compiled once.

    Attributes:
      name: "pretrain", "distill_first" or "train".
      batches: of the training split, in an order of the phase's own.
      total_steps: updates from the first to the last.
      schedule: learning rate over steps.
      abstract: shapes and types of the state.
      train_step: `(state, frozen, replicated, sharded) -> (state, metrics)` on all
        devices, the latter two as yielded by `batches`; donates `state`.
      evaluate: gives the metrics of a state on the watched split; None if there is
        nothing to evaluate.
    """

    def __init__(
        self,
        name: str,
        config: ml_collections.ConfigDict,
        *,
        objective: Objective,
        start: Callable[[TrainState | None], Start],
        before: "Phase | None",
        optimizer: ml_collections.ConfigDict,
        epochs: int,
        batches: TrainBatches,
        devices: Sequence[jax.Device],
        skip_params_without_gradient: bool = False,
        evaluate: Callable[[TrainState], dict[str, float]] | None = None,
    ):
        """Builds the step; nothing is computed yet.

        Args:
          name: of the phase, of its folder and of its random numbers.
          config: of the run.
          objective: what a batch asks of the parameters.
          start: makes what the phase starts from of the final state of the phase
            before, or of None.
          before: the phase before, if there is one.
          optimizer: part of a configuration, for `optim.build`.
          epochs: length of the phase.
          batches: of the training split.
          devices: where to run.
          skip_params_without_gradient: see `step.make_train_step`.
          evaluate: see the attributes.

        Raises:
          ValueError: if a method cannot join student and teacher.
        """
        self.name = name
        self.batches = batches
        self.total_steps = epochs * batches.plan.steps_per_epoch
        self.evaluate = evaluate
        self._start = start
        mesh = Mesh(np.asarray(devices), (step_lib.DEVICES,))
        self._replicated = NamedSharding(mesh.local_mesh, PartitionSpec())
        self._optimizer, self.schedule = optim.build(
            optimizer, epochs=epochs, steps_per_epoch=batches.plan.steps_per_epoch
        )
        train_step = step_lib.make_train_step(
            objective,
            self._optimizer,
            log_every=config.log_every_steps,
            seed=config.seed,
            stream=name,
            steps_per_epoch=batches.plan.steps_per_epoch,
            skip_params_without_gradient=skip_params_without_gradient,
            axis_name=step_lib.DEVICES,
        )

        def make_batch_and_step(state, frozen, replicated, sharded):
            batch = batches.make_batch(replicated, sharded, state.step)
            return train_step(state, frozen, batch)

        self.train_step = step_lib.data_parallel(
            make_batch_and_step, devices, in_axes=(None, None, None, 0), donate=(0,)
        )
        abstract, frozen = jax.eval_shape(
            self._state_and_frozen, before and before.abstract
        )
        self._metric_names = _metric_names(
            objective, abstract, frozen, batches.image_shape, devices
        )
        self.abstract = abstract.replace(
            metrics=jax.eval_shape(lambda: Sums.zeros(self._metric_names))
        )

    def begin(self, before: TrainState | None) -> tuple[TrainState, Frozen]:
        """Makes the state before the first step and what the step reads.

        Args:
          before: final state of the phase before; its arrays may be taken over.

        Returns:
          Both lie on every device, where the step leaves them, or the second step
          would compile anew.
        """
        state, frozen = self._state_and_frozen(before)
        state = state.replace(metrics=Sums.zeros(self._metric_names))
        return jax.device_put((state, frozen), self._replicated)

    def _state_and_frozen(self, before: TrainState | None):
        start = self._start(before)
        state = train_state.create(start.student, start.learned, self._optimizer)
        return state, start.frozen


def _metric_names(
    objective: Objective,
    state: TrainState,
    frozen: Frozen,
    image_shape: tuple[int, ...],
    devices: Sequence[jax.Device],
) -> list[str]:
    """Lists what a step measures, from the shapes of its objective.

    Mixed images or not, it measures the same.
    """
    share = (sum(d.process_index == jax.process_index() for d in devices), 1)
    batch = Batch(
        image=jax.ShapeDtypeStruct((*share, *image_shape), jnp.float32),
        label=jax.ShapeDtypeStruct(share, jnp.int32),
        mask=jax.ShapeDtypeStruct(share, jnp.float32),
        index=jax.ShapeDtypeStruct(share, jnp.int32),
    )
    spread = step_lib.data_parallel(
        objective, devices, in_axes=(None, None, None, 0, None, None)
    )
    found = jax.eval_shape(
        spread,
        state.params,
        state.batch_stats,
        frozen,
        batch,
        jax.random.key(0),
        jnp.zeros((), jnp.int32),
    )
    return step_lib.metric_names(found.values)
