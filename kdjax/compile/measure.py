"""Compiles the training steps of an experiment and measures the programs."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections

from kdjax import phases as phases_lib
from kdjax import replicas
from kdjax.compile import hlo, kernels, targets, untrained
from kdjax.compile.kernels import Work
from kdjax.compile.targets import Target
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
      runs: number of them in the program.
      parameters: that are trained, of all runs.
      compile_s: seconds to compile.
      memory: of each device.
      largest_batch: images over all devices that would fit, from the memory of this
        batch and of one of another size; None if it was not asked for.
      work: of each device.
      flops: floating point operations of each device, by XLA's own account of the
        program before it is optimized.
    """

    phase: str
    runs: int
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
    experiments = untrained.build(config, target, devices)
    # Of the first step, which may be fewer than batch_size.
    size = experiments[0].data.train_batches.plan.size(0)
    options = targets.compiler_options(target, deterministic=config.deterministic)
    states = [None] * len(experiments)
    for of_all in zip(*map(phases_lib.plan, experiments), strict=True):
        # Not trained: the shapes of the states are those at the phase's end.
        starts = list(map(phases_lib.initial_state, of_all, states))
        states = [state for state, _ in starts]
        program = _Program(of_all, _shapes(starts))
        start = time.monotonic()
        compiled = program.lower(devices).compile(options)
        compile_s = time.monotonic() - start
        memory = program.memory(compiled)
        room = target.memory * target.usable - memory.total
        growth = None
        if largest_batch:
            other = program.with_batches(
                experiments, _other_size(experiments[0], size, devices), devices
            )
            growth = other.memory(other.lower(devices).compile(options)).total
            growth = (growth - memory.total) / ((other.batch_size - size) or 1)
        # The compilers for devices that are not there count no operations; XLA's for
        # the CPU counts those of the program before it is optimized.
        cpu = jax.local_devices()[:1]
        single = program.with_batches(experiments, size // len(devices), cpu)
        yield Measured(
            of_all[0].name,
            len(experiments),
            sum(count_parameters(state.params) for state in states),
            compile_s,
            memory,
            None if growth is None else max(int(size + room / max(growth, 1)), 0),
            kernels.count(hlo.parse(compiled.as_text())),
            single.lower(cpu).cost_analysis()["flops"],
        )


class _Program(NamedTuple):
    """The training step of a run, or of several in one program, before it is compiled.

    Attributes:
      phases: of the runs.
      starts: shapes of the state and of what the steps read, of each run.
    """

    phases: tuple[Phase, ...]
    starts: list[tuple[Any, Any]]

    @property
    def batch_size(self) -> int:
        """Returns the number of images of the first batch."""
        return self.phases[0].pipeline.plan.size(0)

    def with_batches(
        self,
        experiments: Sequence[Experiment],
        batch_size: int,
        devices: Sequence[jax.Device],
    ) -> "_Program":
        """Returns the same step on batches of another size, for other devices."""
        batches = untrained.batches(experiments[0], batch_size, devices)
        return self._replace(
            phases=tuple(
                phase._replace(pipeline=batches.with_seed(phase.pipeline.plan.seed))
                for phase in self.phases
            )
        )

    def lower(self, devices: Sequence[jax.Device]) -> jax.stages.Lowered:
        """Lowers the step for some devices."""
        if len(self.phases) == 1:
            (phase,), (start,) = self.phases, self.starts
            step = phases_lib.build_step(phase, devices)
            return step.lower(*start, *phase.pipeline.shapes())
        replicated, sharded = self._batches()
        return replicas.build_step(self.phases, devices).lower(
            [state for state, _ in self.starts],
            self.starts[0][1].teacher,
            [frozen.precomputed for _, frozen in self.starts],
            replicated,
            sharded,
        )

    def _batches(self) -> tuple[Any, dict[int, Any]]:
        """Returns the shapes of what all runs read, and of what each source yields."""
        shapes = {
            i: self.phases[i].pipeline.shapes() for i in replicas.sources(self.phases)
        }
        return shapes[0][0], {i: sharded for i, (_, sharded) in shapes.items()}

    def memory(self, compiled: jax.stages.Compiled) -> Memory:
        """Divides the memory of the compiled program."""
        analysis = compiled.memory_analysis()
        outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
        temporaries = analysis.temp_size_in_bytes
        replicated, sharded = self._batches()
        frozen = [frozen for _, frozen in self.starts]
        of_batches = _num_bytes(sharded) // self.phases[0].pipeline.plan.devices
        return Memory(
            state=_num_bytes([state for state, _ in self.starts]),
            frozen=_num_bytes((frozen[0].teacher, [f.precomputed for f in frozen])),
            data=_num_bytes(replicated) + of_batches,
            temporaries=temporaries,
            total=analysis.argument_size_in_bytes + outputs + temporaries,
        )


def _other_size(
    experiment: Experiment, size: int, devices: Sequence[jax.Device]
) -> int:
    """Returns twice a batch size; half of it where there are too few images."""
    if 2 * size <= experiment.data.train.num_examples:
        return 2 * size
    return max(size // 2 // len(devices), 1) * len(devices)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _num_bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
