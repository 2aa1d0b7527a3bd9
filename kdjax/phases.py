"""The phases of a training: what each of them minimizes, and for how long.

A training has up to three: `pretrain`, in which methods learn on the teacher alone;
`distill_first`, which minimizes the distillation loss alone; and `train`, which trains
the student. A phase is plain data; `kdjax.train` runs one after the other.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from kdjax import dispatch, initial_weights, objective, optim, rngs, setup, train_state
from kdjax import step as step_lib
from kdjax.data.pipeline.batches import Batch, TrainBatches
from kdjax.distill import Method, gradients, heads
from kdjax.objective import Frozen, Objective
from kdjax.optim import accumulate, average
from kdjax.optim.schedules import Length
from kdjax.optim.transforms import without
from kdjax.setup import Experiment
from kdjax.train_state import TrainState, student_variables

#: The phase in which methods learn on the teacher alone.
PRETRAIN = "pretrain"

#: The last phase, which every training has.
TRAIN = "train"


class InitialVariables(NamedTuple):
    """What a phase starts from.

    Attributes:
      student: variables of the student; None if it takes no part.
      learned: variables of each method that learns in this phase, by name.
      frozen: what the step reads and never changes.
    """

    student: Any
    learned: Mapping[str, Any]
    frozen: Frozen


class Phase(NamedTuple):
    """A stretch of training with one objective and one optimizer.

    Attributes:
      name: "pretrain", "distill_first" or "train"; also names its random numbers.
      objective: losses and gradients of a batch.
      init: maps the final state of the phase before, or None, to initial variables.
      optimizer: updates all parameters.
      schedule: learning rate over steps.
      pipeline: batches of the training split, in an order of this phase.
      epochs: length of the phase.
      seed: of the run.
      ema_decay: of the student's moving average; 0 for none.
      steps_per_dispatch: see `dispatch.steps_per_dispatch`.
      skip_params_without_gradient: see `step.make_train_step`.
    """

    name: str
    objective: Objective
    init: Callable[[TrainState | None], InitialVariables]
    optimizer: optax.GradientTransformationExtraArgs
    schedule: optax.Schedule
    pipeline: TrainBatches
    epochs: int
    seed: int
    ema_decay: float = 0.0
    steps_per_dispatch: int = 1
    skip_params_without_gradient: bool = False

    @property
    def total_steps(self) -> int:
        """Returns the number of updates."""
        return self.epochs * self.pipeline.plan.steps_per_epoch


def plan(experiment: Experiment) -> tuple[Phase, ...]:
    """Lists the phases of a training."""
    config, methods = experiment.config, experiment.methods
    init_student, task_methods = _init_student, methods
    phases = []
    if pretraining := {n: m for n, m in methods.items() if m.pretrains}:
        phases.append(
            _phase(
                PRETRAIN,
                experiment,
                config.pretrain,
                objective=objective.pretraining_objective(
                    experiment.teacher.network,
                    pretraining,
                    teacher_train=config.teacher.batch_norm == "batch",
                ),
                init=_init_pretraining,
            )
        )
    if methods and config.distill_first.epochs:
        phases.append(
            _phase(
                "distill_first",
                experiment,
                config.distill_first,
                objective=_student_objective(experiment, methods, task_weight=0),
                init=_init_student,
                skip_params_without_gradient=True,
            )
        )
        # The distillation is over; the student continues with the task alone.
        init_student, task_methods = _init_task, {}
    phases.append(
        _phase(
            TRAIN,
            experiment,
            config,
            objective=_student_objective(
                experiment, task_methods, task_weight=config.task_weight
            ),
            init=init_student,
            ema_decay=config.ema_decay,
            deltas=gradients.deltas(task_methods, config.optimizer.momentum_delta)
            if config.task_weight > 0
            else None,
        )
    )
    return tuple(phases)


def _phase(
    name: str,
    experiment: Experiment,
    length: ml_collections.ConfigDict,
    *,
    objective: Objective,
    init: Callable[[Experiment, TrainState | None], InitialVariables],
    deltas: Mapping[str, float] | None = None,
    **fields: Any,
) -> Phase:
    """Builds a phase; `length` is the part of the config with its epochs."""
    batches = experiment.data.train_batches
    steps = Length(length.epochs, batches.plan.steps_per_epoch)
    if name == TRAIN:
        optimizer, schedule = optim.build(length.optimizer, steps, deltas=deltas)
    else:
        optimizer, schedule = optim.build_sgd(length.optimizer, steps)
    if name != PRETRAIN and (taken := heads.taken_from_teacher(experiment.methods)):
        optimizer = without(optimizer, taken)
    parts = experiment.config.accumulate
    accumulate.check(batches.plan, parts)
    return Phase(
        name=name,
        objective=accumulate.in_parts(objective, parts),
        init=functools.partial(init, experiment),
        optimizer=optimizer,
        schedule=schedule,
        pipeline=batches if name == TRAIN else batches.with_stream(name),
        epochs=length.epochs,
        seed=experiment.config.seed,
        steps_per_dispatch=dispatch.steps_per_dispatch(
            experiment.config.steps_per_dispatch,
            batches.plan,
            in_memory=batches.in_memory,
        ),
        **fields,
    )


def _student_objective(
    experiment: Experiment, methods: Mapping[str, Method], *, task_weight: float
) -> Objective:
    return objective.student_objective(
        experiment.student,
        experiment.teacher and experiment.teacher.network,
        methods,
        teacher_train=experiment.config.teacher.batch_norm == "batch",
        task_weight=task_weight,
        label_smoothing=experiment.config.label_smoothing,
    )


def initial_state(
    phase: Phase, previous: TrainState | None
) -> tuple[TrainState, Frozen]:
    """Returns the state before a phase's first step, and what its steps read.

    Args:
      phase: to start.
      previous: final state of the phase before, if there is one; its arrays may be
        reused.

    Returns:
      Both replicated like the step's outputs, so that the second step does not
      recompile.
    """
    start = phase.init(previous)
    state = train_state.create(
        start.student, start.learned, phase.optimizer, average=phase.ema_decay > 0
    )
    return jax.device_put((state, start.frozen), step_lib.replicated(jax.devices()))


def train_step_of(
    phase: Phase,
) -> Callable[[TrainState, Frozen, Batch], tuple[TrainState, step_lib.Metrics]]:
    """Returns the step of a phase on one device's batch, which `build_step` maps."""
    train_step = step_lib.make_train_step(
        phase.objective,
        phase.optimizer,
        seed=phase.seed,
        stream=phase.name,
        steps_per_epoch=phase.pipeline.plan.steps_per_epoch,
        total_steps=phase.total_steps,
        skip_params_without_gradient=phase.skip_params_without_gradient,
        axis_name=step_lib.DEVICES,
    )
    if phase.ema_decay:
        train_step = average.follow(train_step, phase.ema_decay)
    return train_step


def build_step(
    phase: Phase,
    devices: Sequence[jax.Device] | None = None,
    *,
    steps: int | None = None,
) -> Callable[..., tuple[TrainState, step_lib.Metrics]]:
    """Builds a phase's training step; it compiles at the first call.

    Args:
      phase: what to train.
      devices: those that its batches are planned for; None are all.
      steps: made by one call in a loop, within one epoch of data in memory; None for
        one without a loop.

    Returns:
      `step(state, frozen, replicated, sharded) -> (state, metrics)`, the latter two
      arguments as the phase's batches yield them. The memory of `state` is donated.
      Metrics of a loop are [steps].
    """
    train_step = train_step_of(phase)

    def make_batch_and_step(state, frozen, replicated, sharded):
        batch = phase.pipeline.make_batch(replicated, sharded, state.step)
        return train_step(state, frozen, batch)

    def make_steps(state, *arguments):
        return jax.lax.scan(
            lambda state, _: make_batch_and_step(state, *arguments),
            state,
            length=steps,
        )

    return step_lib.data_parallel(
        make_batch_and_step if steps is None else make_steps,
        devices or jax.devices(),
        in_axes=(None, None, None, 0),
        donate=(0,),
    )


def _init_pretraining(experiment: Experiment, previous: None) -> InitialVariables:
    """Initializes what the methods learn on the teacher alone."""
    del previous
    _, teacher = setup.output_shapes(experiment)
    learned = {}
    for name, method in experiment.methods.items():
        if method.pretrains:
            init = jax.jit(lambda key, m=method: m.pretrain_init(key, teacher))
            learned[name] = init(rngs.key(experiment.config.seed, f"pretrain/{name}"))
    return InitialVariables(None, learned, Frozen(experiment.teacher.variables))


def _init_student(
    experiment: Experiment, pretrained: TrainState | None
) -> InitialVariables:
    """Initializes the student and what the methods learn with it."""
    seed, student = experiment.config.seed, experiment.student
    image = jnp.zeros((1, *experiment.data.image_shape))
    init = jax.jit(lambda key: student.init(key, image, train=False))
    variables = initial_weights.replace(
        init(rngs.key(seed, "student")), experiment.initial_weights
    )
    if not experiment.methods:
        return InitialVariables(variables, {}, Frozen())
    for name in heads.taken_from_teacher(experiment.methods):
        # Not the same arrays, whose memory a step reuses.
        taken = jax.tree.map(jnp.copy, experiment.teacher.variables["params"][name])
        variables["params"][name] = taken
    shapes = setup.output_shapes(experiment)
    learned, precomputed = {}, {}
    for name, method in experiment.methods.items():
        init = jax.jit(lambda key, m=method: m.init(key, *shapes))
        learned[name] = init(rngs.key(seed, f"methods/{name}"))
        precomputed[name] = experiment.precomputed[name]
        if method.pretrains:
            precomputed[name] = precomputed[name] | {
                "pretrained": {
                    "params": pretrained.params["methods"][name],
                    "batch_stats": pretrained.batch_stats["methods"][name],
                }
            }
    teacher = experiment.teacher and experiment.teacher.variables
    return InitialVariables(variables, learned, Frozen(teacher, precomputed))


def _init_task(experiment: Experiment, distilled: TrainState) -> InitialVariables:
    """Continues with the student of the phase `distill_first` and without methods."""
    del experiment
    return InitialVariables(student_variables(distilled), {}, Frozen())
