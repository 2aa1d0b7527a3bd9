"""What a run says while it trains, and what it measured in the end."""

import contextlib
import copy
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from kdjax import metrics, process
from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.runs import multihost, writers

#: Seconds between two looks of the progress bar at the newest metrics.
_REFRESH_S = 1.0


class RunLog:
    """Turns a run's metrics into records and hands them to the writers.

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
    ):
        """Opens the writers.

        Args:
          workdir: where they write.
          description: a word or two before the progress bar.
          plan: of the batches; it tells steps from images and epochs.
          total_steps: updates of the whole run.
          log_every: steps between two train records.
          schedule: learning rate over steps.
          resume_step: step of the checkpoint that the run resumes from, or None.
          resume_state: the log's `state` in that checkpoint.
        """
        self._plan = plan
        self._total_steps = total_steps
        self._log_every = log_every
        self._schedule = schedule
        self._bar = writers.ProgressBar(
            description,
            total_images=plan.images_before(total_steps),
            done_images=plan.images_before(resume_step or 0),
            silent=not multihost.is_main_process(),
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
        self._first_step = True
        self._last_look = time.monotonic()
        self._images, self._seconds = 0, 0.0
        self._clock: tuple[int, float] | None = None

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_) -> None:
        with contextlib.ExitStack() as every:
            # Also those after one that fails.
            for writer in self._writers:
                every.callback(writer.close)

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

    def step_done(self, step: int, values: Mapping[str, jax.Array]) -> None:
        """Waits for a step, adds up its metrics, and logs them every `log_every` steps.

        Args:
          step: updates made, this one included.
          values: mean of each metric over the step's batch, on the devices.

        Raises:
          FloatingPointError: if a value is not finite.
        """
        values = jax.device_get(values)
        self._means.add(values, count=self._plan.size(step - 1), step=step)
        if self._first_step:
            self._first_step = False
            self._bar.say(f"first step {process.age_s():.1f} s after the start")
        self._bar.advance(self._plan.size(step - 1))
        now = time.monotonic()
        if self._clock is None:
            # The first step after a pause may have been compiled; it does not count.
            self._clock = self._plan.images_before(step), now
        if step % self._log_every == 0 or step == self._total_steps:
            rate = float(self._schedule(step - 1))
            means = self._means.means()
            self._means.reset()
            self._write("train", step, {**means, "learning_rate": rate})
        elif now - self._last_look > _REFRESH_S:
            self._last_look = now
            self._bar.show("train", self._means.means())

    def pause(self, step: int) -> None:
        """Stops the clock of images/s while something else than training goes on."""
        if self._clock is not None:
            images, since = self._clock
            self._images += self._plan.images_before(step) - images
            self._seconds += time.monotonic() - since
            self._clock = None

    @property
    def images_per_s(self) -> float | None:
        """Training images per second in this process; None before the first pause."""
        return self._images / self._seconds if self._seconds else None

    def evaluated(self, split: str, step: int, found: Mapping[str, float]) -> None:
        """Logs an evaluation.

        Args:
          split: "test" or "validation" for the student, "teacher_test" or
            "teacher_validation" for the teacher.
          step: updates made.
          found: the metrics, `accuracy` among them.
        """
        self._write(split, step, found)
        last = {"step": step, "accuracy": found["accuracy"]}
        kept = self._evaluations.setdefault(split, {"best": last})
        kept["last"] = last
        if last["accuracy"] >= kept["best"]["accuracy"]:
            kept["best"] = last

    def _write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        epoch = step / self._plan.steps_per_epoch
        record = {"step": step, "epoch": epoch, "split": split, **values}
        for writer in self._writers:
            writer.write(record)
