"""The training loop of a phase, of one run or of several in one program."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kdjax import dispatch, phases, replicas
from kdjax.evaluate import Evaluator
from kdjax.phase_run import PhaseRun


def train(runs: Sequence[PhaseRun], stop_requested: Callable[[], bool]) -> bool:
    """Trains to the end of the phase, or until a stop is requested.

    Runs that are behind the others, as after a kill between two saves, make their steps
    alone until they have caught up. One whose loss is not finite ends with a `failure`,
    and the others go on.

    Args:
      runs: of one phase, with equally many steps of equally many images.
      stop_requested: tells whether to stop before the next step.

    Returns:
      Whether the end was reached; if not, the states are saved where they stopped.
    """
    evaluators = _evaluators(runs)
    with contextlib.ExitStack() as stack:
        together: _Together | None = None
        while True:
            stop = stop_requested()
            for run, evaluate in zip(runs, evaluators, strict=True):
                run.rest(evaluate, stop=stop)
            going = [run for run in runs if not run.is_over]
            if stop or not going:
                return not going
            step, *further = sorted({run.step for run in going})
            now = [run for run in going if run.step == step]
            if together is None or together.runs != now:
                stack.close()
                together = stack.enter_context(_Together(now))
            together.make_steps(*further[:1])


def _evaluators(runs: Sequence[PhaseRun]) -> list[Evaluator | None]:
    """Returns the evaluator of each run; equal networks share what is compiled."""
    found = []
    for i, run in enumerate(runs):
        same = (
            found[j]
            for j, other in enumerate(runs[:i])
            if other.experiment.student == run.experiment.student
        )
        shared = next(same, None)
        found.append(run.evaluator() if shared is None else shared)
    return found


class _Together:
    """Runs at one step, which make their further steps in one program.

    A context manager, which closes the input pipelines.

    Attributes:
      runs: whose steps are made.
    """

    def __init__(self, runs: list[PhaseRun]):
        """Opens the input pipelines; a program is compiled at its first call."""
        self.runs = runs
        self._phases = [run.phase for run in runs]
        phase, step = self._phases[0], runs[0].step
        self._program = functools.cache(self._build_program)
        self._closed_at_the_end = contextlib.ExitStack()
        # By the first run that takes these batches.
        self._batches: dict[int, Iterator] = {}
        for i in sorted(set(replicas.sources(self._phases))):
            batches = self._phases[i].pipeline.batches(step, phase.total_steps)
            self._closed_at_the_end.enter_context(contextlib.closing(batches))
            self._batches[i] = batches

    def __enter__(self) -> "_Together":
        return self

    def __exit__(self, *_) -> None:
        self._closed_at_the_end.close()

    def make_steps(self, before: int | None = None) -> None:
        """Makes the steps of one program.

        Args:
          before: number of steps at which others join; None if there are none.
        """
        first, phase = self.runs[0], self._phases[0]
        last = phase.total_steps if before is None else before
        steps = dispatch.next_steps(
            first.step,
            phase.steps_per_dispatch,
            phase.pipeline.plan,
            *first.rests_every,
            last=last,
        )
        sharded = {}
        for i, batches in self._batches.items():
            # In memory, the steps of an epoch have the same arguments. So have all
            # runs what is replicated, the images in memory.
            *_, (replicated, sharded[i]) = itertools.islice(batches, steps)
        if len(self.runs) == 1:
            made = [
                self._program(steps)(first.state, first.frozen, replicated, sharded[0])
            ]
        else:
            frozen = first.frozen.teacher, [run.frozen.precomputed for run in self.runs]
            states = [run.state for run in self.runs]
            made = self._program(steps)(states, *frozen, replicated, sharded)
        for run, (state, metrics) in zip(self.runs, made, strict=True):
            run.advance(steps, state, metrics)

    def _build_program(self, steps: int) -> Callable[..., Any]:
        """Builds the program of some steps."""
        # A loop rounds otherwise than a step without, but equally at any length.
        looped = steps if self._phases[0].steps_per_dispatch > 1 else None
        if len(self._phases) == 1:
            return phases.build_step(self._phases[0], steps=looped)
        return replicas.build_step(self._phases, steps=looped)
