"""The training loop of one phase, with its log and its checkpoints."""

import contextlib
import functools
import itertools
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from kdjax import dispatch, phases, setup
from kdjax import step as step_lib
from kdjax.evaluate import Evaluator
from kdjax.phases import Phase
from kdjax.results import Outcome, count_parameters
from kdjax.runs import workdirs
from kdjax.runs.checkpoint import Checkpoints
from kdjax.runs.log import RunLog
from kdjax.setup import Experiment
from kdjax.train_state import TrainState, evaluated_variables


class PhaseRun:
    """One phase on its way: its state, log and checkpoints.

    Attributes:
      state: after the newest step.
    """

    def __init__(
        self,
        experiment: Experiment,
        phase: Phase,
        folder: pathlib.Path,
        previous: TrainState | None,
    ):
        """Initializes the phase, or restores its newest checkpoint.

        Args:
          experiment: that the phase belongs to.
          phase: what to run.
          folder: gets metrics and checkpoints.
          previous: final state of the phase before.

        Raises:
          ValueError: if the checkpoint holds another state.
        """
        self._experiment, self._phase, self._folder = experiment, phase, folder
        self._evaluates = phase.name == phases.TRAIN
        self.state, self._frozen = phases.initial_state(phase, previous)
        config = experiment.config
        self._checkpoints = Checkpoints(
            folder,
            keep_last=config.checkpoint.keep_last,
            keep_best=config.checkpoint.keep_best if self._evaluates else 0,
        )
        self._made_with = {
            **workdirs.provenance(),
            "config": workdirs.as_json(config),
        }
        self._started = time.monotonic()
        self._metadata: dict[str, Any] = {}
        resume_step = self._restore()
        # Number of updates after which the phase is over.
        self._end = phase.total_steps
        if self._metadata.get("ended_early"):
            self._end = resume_step
        # A comparison names its runs.
        name = os.environ.get("KDJAX_RUN_NAME", config.model)
        self._log = RunLog(
            folder,
            description=name if self._evaluates else f"{name}: {phase.name}",
            plan=phase.pipeline.plan,
            total_steps=phase.total_steps,
            log_every=config.log_every_steps,
            schedule=phase.schedule,
            resume_step=resume_step,
            resume_state=self._metadata.get("log"),
        )
        teacher = experiment.teacher
        if teacher and teacher.evaluation and resume_step is None:
            self._log.evaluated(
                f"teacher_{experiment.data.eval_name}",
                0,
                teacher.evaluation.metrics,
            )

    def _restore(self) -> int | None:
        """Restores the newest checkpoint that can be read, and returns its step."""
        if self._checkpoints.latest_step is None:
            return None
        self.state, self._metadata = self._checkpoints.restore(self.state)
        workdirs.warn_of_changes(self._folder, self._metadata, self._made_with)
        # Counts the wall time of earlier processes too.
        self._started -= self._metadata.setdefault("wall_s", 0.0)
        return self._checkpoints.latest_step

    def train(self, stop_requested: Callable[[], bool]) -> bool:
        """Trains to the end of the phase, or until a stop is requested.

        Args:
          stop_requested: tells whether to stop before the next step.

        Returns:
          Whether the end was reached; if not, the state is saved where it stopped.

        Raises:
          FloatingPointError: if a loss is not finite; names what is kept.
        """
        batches = self._phase.pipeline.batches(
            int(self.state.step), self._phase.total_steps
        )
        with self._log, self._checkpoints, contextlib.closing(batches):
            try:
                return self._loop(batches, stop_requested)
            except FloatingPointError as error:
                step = self._checkpoints.latest_step
                kept = "no checkpoint"
                if step is not None:
                    kept = f"the checkpoint of step {step}"
                raise FloatingPointError(
                    f"{error}; {self._folder} keeps {kept}"
                ) from None

    def _loop(self, batches: Iterator, stop_requested: Callable[[], bool]) -> bool:
        """Evaluates, saves, takes a batch, steps, and logs the steps before."""
        config, total_steps = self._experiment.config, self._phase.total_steps
        plan = self._phase.pipeline.plan
        evaluate_every = config.evaluate_every_epochs * plan.steps_per_epoch
        save_every = config.checkpoint.every_steps
        per_dispatch = self._phase.steps_per_dispatch

        @functools.cache
        def program(steps: int):
            # A loop rounds otherwise than a step without, but equally at any length.
            looped = steps if per_dispatch > 1 else None
            return phases.build_step(self._phase, steps=looped)

        evaluate = self._evaluator() if self._evaluates else None
        first = step = int(self.state.step)
        # Metrics of the newest steps, which may still be running.
        pending: step_lib.Metrics | None = None
        while True:
            evaluation_due = step == self._end or step % evaluate_every == 0
            save_due = evaluation_due or (save_every and step % save_every == 0)
            stop = stop_requested()
            if step > first and (save_due or stop):
                # A state is saved only after every loss that led to it proved finite
                # and the records of its steps are written.
                self._log.steps_done(step, pending)
                pending = None
                self._log.pause(step)
                accuracy = None
                if evaluation_due and evaluate:
                    accuracy = self._evaluate(evaluate, step)
                self._save(step, accuracy)
            if step == self._end or stop:
                return step == self._end
            steps = dispatch.next_steps(
                step, per_dispatch, plan, evaluate_every, save_every, last=total_steps
            )
            # In memory, the steps of an epoch have the same arguments.
            *_, batch = itertools.islice(batches, steps)
            self.state, metrics = program(steps)(self.state, self._frozen, *batch)
            if pending is not None:
                self._log.steps_done(step, pending)
            pending = metrics
            step += steps

    def _evaluator(self) -> Evaluator:
        """Returns what evaluates the student on the split watched during training."""
        teacher = self._experiment.teacher
        return Evaluator(
            self._experiment.student,
            self._experiment.data.eval_batches,
            jax.devices(),
            teacher_prediction=teacher and teacher.prediction,
        )

    def _evaluate(self, evaluate: Evaluator, step: int) -> float:
        """Evaluates and logs; decides on an early end.

        Returns:
          The accuracy that ranks checkpoints.
        """
        variables = evaluated_variables(self.state)
        metrics = evaluate(variables).metrics
        self._log.evaluated(self._experiment.data.eval_name, step, metrics)
        if self._is_overdue(step):
            self._end = step
        if step == self._end and self._experiment.data.eval_name != "test":
            for split, values in evaluate_on_test(self._experiment, variables).items():
                self._log.evaluated(split, step, values)
        return metrics["accuracy"]

    def _is_overdue(self, step: int) -> bool:
        """Tells whether the best evaluation is too long ago."""
        if not (patience := self._experiment.config.early_stop_epochs):
            return False
        best = self._log.evaluations[self._experiment.data.eval_name]["best"]["step"]
        return step - best >= patience * self._phase.pipeline.plan.steps_per_epoch

    def _save(self, step: int, accuracy: float | None) -> None:
        """Starts saving the state with what a resumed run needs to know."""
        self._metadata = {
            "wall_s": time.monotonic() - self._started,
            "images": self._experiment.data.num_images,
            "ended_early": step == self._end < self._phase.total_steps,
            "log": self._log.state,
            **self._made_with,
        }
        self._checkpoints.save(step, self.state, self._metadata, accuracy)

    def outcome(self) -> Outcome:
        """Sums up the finished phase."""
        params = self.state.params
        return Outcome(
            steps=self._end,
            wall_s=self._metadata["wall_s"],
            images_per_s=self._log.images_per_s,
            evaluations=self._log.evaluations,
            student_parameters=count_parameters(params.get("student")),
            method_parameters={
                name: count_parameters(tree) for name, tree in params["methods"].items()
            },
        )


def evaluate_on_test(
    experiment: Experiment, variables: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """Evaluates teacher and student on the test split.

    Args:
      experiment: whose test split was not evaluated on during training.
      variables: of the student.

    Returns:
      Metrics of "teacher_test", if there is a teacher for these classes, and of "test".
    """
    batches = setup.eval_batches(experiment.config, experiment.data.test)
    found, prediction, teacher = {}, None, experiment.teacher
    if teacher and teacher.evaluation:
        evaluate = Evaluator(teacher.network, batches, jax.devices())
        evaluation = evaluate(teacher.variables)
        found["teacher_test"], prediction = evaluation.metrics, evaluation.prediction
    student = Evaluator(
        experiment.student, batches, jax.devices(), teacher_prediction=prediction
    )
    return found | {"test": student(variables).metrics}


def folder_of(phase: Phase, workdir: pathlib.Path) -> pathlib.Path:
    """Returns where a phase writes.

    The student's training has the work directory itself: its checkpoints are those that
    others load.
    """
    return workdir if phase.name == phases.TRAIN else workdir / phase.name


def check_resumable(
    experiment: Experiment, plan: Sequence[Phase], workdir: pathlib.Path
) -> None:
    """Rejects what would give the steps of the checkpoints another meaning.

    Args:
      experiment: that goes on, if it has checkpoints.
      plan: its phases.
      workdir: its work directory.

    Raises:
      ValueError: if a checkpoint was trained on another number of images, in batches of
        another size or for more steps than the phase has.
    """
    images, batch_size = experiment.data.num_images, experiment.config.batch_size
    for phase in plan:
        folder = folder_of(phase, workdir)
        checkpoints = Checkpoints(folder)
        if checkpoints.latest_step is None:
            continue
        # Passes over what cannot be read, or is of another step than its folder says.
        metadata = checkpoints.read_metadata()
        if (step := checkpoints.latest_step) > phase.total_steps:
            raise ValueError(
                f"{folder}: its checkpoint is of step {step}, beyond the last step, "
                f"{phase.total_steps}, of epochs={phase.epochs}"
            )
        before = metadata.get("images", images)
        if before != images:
            raise ValueError(
                f"{folder}: its checkpoint was trained on a data set of {before} "
                f"images, which has {images} now"
            )
        before = metadata.get("config", {}).get("batch_size", batch_size)
        if before != batch_size:
            raise ValueError(
                f"{folder}: its checkpoint was trained with batch_size={before}, and "
                f"batch_size={batch_size} would change what an epoch is"
            )
