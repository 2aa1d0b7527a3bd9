"""Several runs in one program: seeds of one configuration, or values of one field.

`kdjax.config.replicas` says which. Each is a run with a folder of its own that could be
trained alone with the same result; together they share the images in memory. Those that
also see the same batches, `data.seed`, share the augmentation and the teacher: their
program has equal operations on equal values, which XLA makes one.

The steps of the replicas stand one after the other in the program. `jax.vmap` over them
turns their convolutions into grouped ones, and `jax.lax.map` makes a loop, in which XLA
runs a convolution on a single core of a CPU: for four students WRN-16-1 of a WRN-16-2
on two cores, OFD, the step took 0.60 times as long as four steps alone, with `vmap` 2.4
times and with `map` 13 times as long.
"""

from collections.abc import Callable, Sequence

import jax

from kdjax import phases
from kdjax import step as step_lib
from kdjax.objective import Frozen
from kdjax.phases import Phase
from kdjax.train_state import TrainState


def sources(runs: Sequence[Phase]) -> list[int]:
    """Returns for each phase the index of the first one that has the same batches."""
    plans = [phase.pipeline.plan for phase in runs]
    return [plans.index(plan) for plan in plans]


def build_step(
    runs: Sequence[Phase],
    devices: Sequence[jax.Device] | None = None,
    *,
    steps: int | None = None,
) -> Callable[..., list[tuple[TrainState, step_lib.Metrics]]]:
    """Builds the training step of several runs; it compiles at the first call.

    Args:
      runs: the phase of each run; all are at the same step.
      devices: as for `phases.build_step`.
      steps: as for `phases.build_step`.

    Returns:
      `step(states, teacher, precomputed, replicated, sharded)`, which returns the new
      state and the metrics of each run. `states` and `precomputed` are lists; the
      teacher's variables and `replicated` are those of all; `sharded` has what the
      batches yield, by the index of the first run that takes them.
    """
    train_steps = [phases.train_step_of(phase) for phase in runs]
    source = sources(runs)

    def make_batches_and_steps(states, teacher, precomputed, replicated, sharded):
        batches = {
            i: runs[i].pipeline.make_batch(replicated, sharded[i], states[i].step)
            for i in set(source)
        }
        return [
            train_step(state, Frozen(teacher, fixed), batches[i])
            for train_step, state, fixed, i in zip(
                train_steps, states, precomputed, source, strict=True
            )
        ]

    def make_steps(states, *arguments):
        def body(states, _):
            made = make_batches_and_steps(states, *arguments)
            return [state for state, _ in made], [metrics for _, metrics in made]

        states, metrics = jax.lax.scan(body, states, length=steps)
        return list(zip(states, metrics, strict=True))

    return step_lib.data_parallel(
        make_batches_and_steps if steps is None else make_steps,
        devices or jax.devices(),
        in_axes=(None, None, None, None, 0),
        donate=(0,),
    )
