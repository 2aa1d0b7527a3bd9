"""One run in one phase: its state, its log and its checkpoints."""

import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from kdjax import phases, setup
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
    """One run in one phase: what it has reached, and what it writes.

    A context manager, which closes its log and its checkpoints.

    Attributes:
      experiment: that the phase belongs to.
      phase: what is trained.
      state: after the newest step.
      frozen: what the steps read and never change.
      step: updates made.
      failure: the error of a run whose loss is not finite; None of others.
    """

    def __init__(
        self,
        experiment: Experiment,
        phase: Phase,
        folder: pathlib.Path,
        previous: TrainState | None,
        *,
        label: str = "",
        draws_bar: bool = True,
    ):
        """Initializes the phase, or restores its newest checkpoint.

        Args:
          experiment: that the phase belongs to.
          phase: what to run.
          folder: gets metrics and checkpoints.
          previous: final state of the phase before.
          label: tells the run from others in the same program; empty without others.
          draws_bar: whether it shows a progress bar, where there is a terminal.

        Raises:
          ValueError: if the checkpoint holds another state.
        """
        self.experiment, self.phase, self._folder = experiment, phase, folder
        self._evaluates = phase.name == phases.TRAIN
        self.state, self.frozen = phases.initial_state(phase, previous)
        self.failure: FloatingPointError | None = None
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
        self.step = self._saved = int(self.state.step)
        # Metrics of the newest steps, which may still be running.
        self._pending: step_lib.Metrics | None = None
        # A comparison names its runs.
        name = f"{os.environ.get('KDJAX_RUN_NAME', config.model)} {label}".strip()
        self._log = RunLog(
            folder,
            description=name if self._evaluates else f"{name}: {phase.name}",
            plan=phase.pipeline.plan,
            total_steps=phase.total_steps,
            log_every=config.log_every_steps,
            schedule=phase.schedule,
            resume_step=resume_step,
            resume_state=self._metadata.get("log"),
            draws_bar=draws_bar,
        )
        teacher = experiment.teacher
        if teacher and teacher.evaluation and resume_step is None:
            self._log.evaluated(
                f"teacher_{experiment.data.eval_name}",
                0,
                teacher.evaluation.metrics,
            )

    def __enter__(self) -> "PhaseRun":
        return self

    def __exit__(self, *error) -> None:
        try:
            self._checkpoints.__exit__(*error)
        finally:
            self._log.__exit__(*error)

    def _restore(self) -> int | None:
        """Restores the newest checkpoint that can be read, and returns its step."""
        if self._checkpoints.latest_step is None:
            return None
        self.state, self._metadata = self._checkpoints.restore(self.state)
        workdirs.warn_of_changes(self._folder, self._metadata, self._made_with)
        # Counts the wall time of earlier processes too.
        self._started -= self._metadata.setdefault("wall_s", 0.0)
        return self._checkpoints.latest_step

    @property
    def is_over(self) -> bool:
        """Whether the run makes no more steps in this phase."""
        return self.failure is not None or self.step == self._end

    @property
    def rests_every(self) -> tuple[int, int]:
        """After multiples of these numbers of steps it evaluates, or saves; 0 never."""
        config, plan = self.experiment.config, self.phase.pipeline.plan
        return (
            config.evaluate_every_epochs * plan.steps_per_epoch,
            config.checkpoint.every_steps,
        )

    def evaluator(self) -> Evaluator | None:
        """Returns what evaluates the student on the split watched during training.

        None in the phases before, in which nothing is evaluated.
        """
        if not self._evaluates:
            return None
        teacher = self.experiment.teacher
        return Evaluator(
            self.experiment.student,
            self.experiment.data.eval_batches,
            jax.devices(),
            teacher_prediction=teacher and teacher.prediction,
        )

    def rest(self, evaluate: Evaluator | None, *, stop: bool) -> None:
        """Evaluates and saves, if one of them is due.

        Args:
          evaluate: as `evaluator` returns it.
          stop: whether the run is told to stop, and saves wherever it is.
        """
        step = self.step
        evaluate_every, save_every = self.rests_every
        evaluation_due = step == self._end or step % evaluate_every == 0
        due = evaluation_due or (save_every and step % save_every == 0) or stop
        if not due or step == self._saved or self.failure is not None:
            return
        try:
            # A state is saved only after every loss that led to it proved finite and
            # the records of its steps are written.
            self._log_pending()
        except FloatingPointError as error:
            self._fail(error)
            return
        self._log.pause(step)
        accuracy = None
        if evaluation_due and evaluate:
            accuracy = self._evaluate(evaluate, step)
        self._save(step, accuracy)

    def advance(self, steps: int, state: TrainState, metrics: step_lib.Metrics) -> None:
        """Takes the state after further steps; logs the steps before them.

        Args:
          steps: their number.
          state: after them.
          metrics: of them; they may still be running.
        """
        self.state = state
        try:
            self._log_pending()
        except FloatingPointError as error:
            self._fail(error)
        self._pending = metrics
        self.step += steps

    def _log_pending(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._log.steps_done(self.step, pending)

    def _fail(self, error: FloatingPointError) -> None:
        """Ends the run with an error that names what is kept."""
        step = self._checkpoints.latest_step
        kept = "no checkpoint" if step is None else f"the checkpoint of step {step}"
        self.failure = FloatingPointError(f"{error}; {self._folder} keeps {kept}")

    def _evaluate(self, evaluate: Evaluator, step: int) -> float:
        """Evaluates and logs; decides on an early end.

        Returns:
          The accuracy that ranks checkpoints.
        """
        variables = evaluated_variables(self.state)
        metrics = evaluate(variables).metrics
        self._log.evaluated(self.experiment.data.eval_name, step, metrics)
        if self._is_overdue(step):
            self._end = step
        if step == self._end and self.experiment.data.eval_name != "test":
            for split, values in evaluate_on_test(self.experiment, variables).items():
                self._log.evaluated(split, step, values)
        return metrics["accuracy"]

    def _is_overdue(self, step: int) -> bool:
        """Tells whether the best evaluation is too long ago."""
        if not (patience := self.experiment.config.early_stop_epochs):
            return False
        best = self._log.evaluations[self.experiment.data.eval_name]["best"]["step"]
        return step - best >= patience * self.phase.pipeline.plan.steps_per_epoch

    def _save(self, step: int, accuracy: float | None) -> None:
        """Starts saving the state with what a resumed run needs to know."""
        self._metadata = {
            "wall_s": time.monotonic() - self._started,
            "images": self.experiment.data.num_images,
            "ended_early": step == self._end < self.phase.total_steps,
            "log": self._log.state,
            **self._made_with,
        }
        self._checkpoints.save(step, self.state, self._metadata, accuracy)
        self._saved = step

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
