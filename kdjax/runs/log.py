"""Logs the metrics of a phase: to files, to TensorBoard and to the terminal."""

import contextlib
import copy
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from kdjax import metrics
from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.runs import console, multihost, writers
from kdjax.runs.clock import Clock

#: Seconds between two updates of the loss in the progress bar.
_REFRESH_S = 1.0


class RunLog:
    """Turns the metrics of a phase into records and hands them to the writers.

    A record has `step` (updates made), `epoch`, `split` and numbers. Train records are
    means over the steps since the last one; `learning_rate` is that of the last step.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        description: str,
        plan: BatchPlan,
        total_steps: int,
        log_every: int,
        schedule: Callable[[int], Any],
        resume_step: int | None,
        resume_state: Mapping[str, Any] | None = None,
        draws_bar: bool = True,
    ):
        """Opens the writers.

        Args:
          workdir: folder of the phase.
          description: a word or two before each line and the progress bar.
          plan: of the batches; converts steps to images and epochs.
          total_steps: number of updates of the phase.
          log_every: steps between two train records.
          schedule: learning rate as a function of the step.
          resume_step: step of the restored checkpoint, or None.
          resume_state: the log's `state` in that checkpoint.
          draws_bar: whether there is a progress bar, if there is a terminal.
        """
        self._plan = plan
        self._total_steps = total_steps
        self._log_every = log_every
        self._schedule = schedule
        self._clock = Clock(plan.images_before(total_steps))
        self._bar = writers.ProgressBar(
            description, plan=plan, total_steps=total_steps, draws=draws_bar
        )
        self._writers = [self._bar]
        if multihost.is_main_process():
            self._writers += [
                writers.MetricsFile(workdir, resume_step=resume_step),
                writers.TensorBoard(workdir, resume_step=resume_step),
            ]
        resume_state = resume_state or {"means": None, "evaluations": {}}
        self._means = metrics.RunningMeans(resume_state["means"])
        self._evaluations = copy.deepcopy(dict(resume_state["evaluations"]))
        # For the line of an evaluation, whatever the length of an epoch.
        self._since_evaluation = metrics.RunningMeans()
        if resume_step is not None:
            self._show_resumed(resume_step)
        self._last_refresh = self._opened = time.monotonic()
        self._compiling = contextlib.ExitStack()
        if resume_step != total_steps and draws_bar:
            self._compiling.enter_context(
                console.progress(f"{description}: compiling the training step")
            )
        self._first_step = True

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_) -> None:
        with contextlib.ExitStack() as every:
            # Closes the others even if one fails.
            for writer in self._writers:
                every.callback(writer.close)
            every.callback(self._compiling.close)

    @property
    def state(self) -> dict[str, Any]:
        """Returns, as JSON, what a resumed run needs to log the same numbers."""
        return {"means": self._means.state, "evaluations": self.evaluations}

    @property
    def evaluations(self) -> dict[str, Any]:
        """Returns the `last` and the `best` evaluation of each split.

        Either has `step` and `accuracy`. Ties go to the later step, as among
        checkpoints.
        """
        return copy.deepcopy(self._evaluations)

    def steps_done(self, step: int, values: Mapping[str, jax.Array]) -> None:
        """Waits for steps, adds up their metrics, and logs them every `log_every` ones.

        Args:
          step: updates made, these included.
          values: mean of each metric over a step's batch, on the devices; a scalar of
            one step, [n] of several.

        Raises:
          FloatingPointError: if a value is not finite.
        """
        values = {k: np.atleast_1d(v) for k, v in jax.device_get(values).items()}
        steps = len(values["loss"])
        if self._first_step:
            self._start_bar(step)
        images = self._plan.images_before(step)
        self._clock.step_done(images)
        rate = self._clock.images_per_s
        self._bar.advance(step, rate, self._clock.seconds_left(images))
        for i in range(steps):
            self._add(step - steps + 1 + i, {name: v[i] for name, v in values.items()})
        now = time.monotonic()
        if self._means.count and now - self._last_refresh > _REFRESH_S:
            self._last_refresh = now
            self._bar.show("train", self._means.means())

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the metrics of a step, and writes the means if a record is due."""
        for means in (self._means, self._since_evaluation):
            means.add(values, count=self._plan.size(step - 1), step=step)
        if step % self._log_every == 0 or step == self._total_steps:
            rate = float(self._schedule(step - 1))
            means = self._means.means()
            self._means.reset()
            self._write("train", step, {**means, "learning_rate": rate})

    def pause(self, step: int) -> None:
        """Stops the clock of images/s until the next step, to evaluate and save."""
        self._clock.pause(self._plan.images_before(step))
        self._bar.note("evaluating and saving")

    @property
    def images_per_s(self) -> float | None:
        """Training images per second in this process; None before two steps."""
        return self._clock.images_per_s

    def evaluated(self, split: str, step: int, found: Mapping[str, float]) -> None:
        """Logs an evaluation.

        Args:
          split: "test" or "validation" for the student, "teacher_test" or
            "teacher_validation" for the teacher.
          step: updates made.
          found: the metrics, `accuracy` among them.
        """
        if self._since_evaluation.count:
            rate = float(self._schedule(step - 1))
            means = self._since_evaluation.means()
            self._bar.show("train", {**means, "learning_rate": rate})
            self._since_evaluation.reset()
        self._write(split, step, found)
        last = {"step": step, "accuracy": found["accuracy"]}
        kept = self._evaluations.setdefault(split, {"best": last})
        kept["last"] = last
        if last["accuracy"] >= kept["best"]["accuracy"]:
            kept["best"] = last

    def _show_resumed(self, step: int) -> None:
        epoch = step / self._plan.steps_per_epoch
        self._bar.say(f"resumed at step {step:,} (epoch {epoch:.4g})")
        for split, kept in self._evaluations.items():
            self._bar.show(split, kept["last"])

    def _start_bar(self, step: int) -> None:
        self._first_step = False
        self._compiling.close()
        self._bar.say(f"first step after {time.monotonic() - self._opened:.1f} s")
        self._bar.start(step)

    def _write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        epoch = step / self._plan.steps_per_epoch
        record = {"step": step, "epoch": epoch, "split": split, **values}
        for writer in self._writers:
            writer.write(record)
