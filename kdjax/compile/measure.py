"""Compiles the training steps of an experiment and measures the programs."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections

from kdjax import phases as phases_lib
from kdjax.compile import hlo, kernels, targets, untrained
from kdjax.compile.kernels import Work
from kdjax.compile.targets import Target
from kdjax.data.pipeline.batches import TrainBatches
from kdjax.phases import Phase
from kdjax.results import count_parameters
from kdjax.setup import Experiment


class Memory(NamedTuple):
    """Bytes that a training step needs on each device.

    Attributes:
      state: parameters, running statistics and the optimizer's state.
      frozen: the teacher, and what methods computed from it.
      data: the data set, or the batch of a streaming pipeline.
      temporaries: activations, gradients and whatever else a step forgets.
      total: of the program, by XLA's own account of what it may share.
    """

    state: int
    frozen: int
    data: int
    temporaries: int
    total: int


class Measured(NamedTuple):
    """The training step of a phase, compiled.

    Attributes:
      phase: its name.
      parameters: that are trained.
      compile_s: seconds to compile.
      memory: of each device.
      largest_batch: images over all devices that would fit, from the memory of this
        batch and of one of another size; None if it was not asked for.
      work: of each device.
      flops: floating point operations of each device, by XLA's own account of the
        program before it is optimized.
    """

    phase: str
    parameters: int
    compile_s: float
    memory: Memory
    largest_batch: int | None
    work: Work
    flops: float

    def seconds(self, target: Target, dtype: str) -> dict[str, float]:
        """Returns the least times of a step by what would bind it.

        None of them can be beaten by much, and the largest is a lower bound: a real
        step overlaps them in part.
        """
        return {
            "launches": sum(self.work.kernels.values()) * target.launch_s,
            "bandwidth": self.work.traffic / target.bandwidth,
            "arithmetic": self.flops / target.flops[dtype],
        }


def measure(
    config: ml_collections.ConfigDict,
    target: Target,
    devices: Sequence[jax.Device],
    *,
    largest_batch: bool = True,
) -> Iterator[Measured]:
    """Compiles the training step of each phase, one after the other.

    Args:
      config: of the experiment.
      target: kind of the devices.
      devices: to compile for.
      largest_batch: whether to estimate it, which compiles each step a second time.

    Yields:
      What the program of each phase needs.

    Raises:
      ValueError: if what the config names does not fit together, or the batch size
        does not fit the devices.
      FileNotFoundError: if the shapes of the data set are known once it is prepared.
    """
    experiment = untrained.build(config, target, devices)
    # Of the first step, which may be fewer than batch_size.
    size = experiment.data.train_batches.plan.size(0)
    single = untrained.batches(config, experiment, size // len(devices))
    options = targets.compiler_options(target, deterministic=config.deterministic)
    state = None
    for phase in phases_lib.plan(experiment):
        # Not trained: the shapes of the state are those at the phase's end.
        state, frozen = phases_lib.initial_state(phase, state)
        variables = _shapes(state), _shapes(frozen)
        lowered = _lower(phase, variables, phase.pipeline, devices)
        start = time.monotonic()
        compiled = lowered.compile(options)
        compile_s = time.monotonic() - start
        memory = _memory(compiled, variables, phase.pipeline)
        room = target.memory * target.usable - memory.total
        growth = None
        if largest_batch:
            batches = _of_other_size(config, experiment, size, devices)
            other = _lower(phase, variables, batches, devices).compile(options)
            growth = _memory(other, variables, batches).total - memory.total
            growth /= (batches.plan.size(0) - size) or 1
        # The compilers for devices that are not there count no operations; XLA's for
        # the CPU counts those of the program before it is optimized.
        counted = _lower(phase, variables, single, jax.local_devices()[:1])
        yield Measured(
            phase.name,
            count_parameters(state.params),
            compile_s,
            memory,
            None if growth is None else max(int(size + room / max(growth, 1)), 0),
            kernels.count(hlo.parse(compiled.as_text())),
            counted.cost_analysis()["flops"],
        )


def _of_other_size(
    config: ml_collections.ConfigDict,
    experiment: Experiment,
    size: int,
    devices: Sequence[jax.Device],
) -> TrainBatches:
    """Returns batches of twice the size; of half where there are too few images."""
    twice = 2 * size
    if twice > experiment.data.train.num_examples:
        twice = max(size // 2 // len(devices), 1) * len(devices)
    return untrained.batches(config, experiment, twice, devices)


def _lower(
    phase: Phase,
    variables: tuple[Any, Any],
    batches: TrainBatches,
    devices: Sequence[jax.Device],
) -> jax.stages.Lowered:
    """Lowers a phase's step on batches of some size for some devices."""
    step = phases_lib.build_step(phase._replace(pipeline=batches), devices)
    return step.lower(*variables, *batches.shapes())


def _memory(
    compiled: jax.stages.Compiled, variables: tuple[Any, Any], batches: TrainBatches
) -> Memory:
    """Divides the memory of a program."""
    analysis = compiled.memory_analysis()
    replicated, sharded = batches.shapes()
    outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    temporaries = analysis.temp_size_in_bytes
    return Memory(
        state=_num_bytes(variables[0]),
        frozen=_num_bytes(variables[1]),
        data=_num_bytes(replicated) + _num_bytes(sharded) // batches.plan.devices,
        temporaries=temporaries,
        total=analysis.argument_size_in_bytes + outputs + temporaries,
    )


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _num_bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
