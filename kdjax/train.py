"""The story of a run, from its configuration to its result.

Training a teacher, a student alone and a distilled student are the same run with
different methods: none, or some. A run has one phase, or several one after the other,
each with its own metrics and checkpoints.
"""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections

from kdjax import config as config_lib
from kdjax import metrics
from kdjax.experiment import Experiment
from kdjax.objective import Frozen
from kdjax.phase import Phase
from kdjax.runs import lock, multihost, signals, workdirs
from kdjax.runs.checkpoint import Checkpoints
from kdjax.runs.log import RunLog
from kdjax.train_state import TrainState


def train_and_evaluate(
    config: ml_collections.ConfigDict, workdir: str | pathlib.Path
) -> dict[str, Any] | None:
    """Trains a network, alone or taught, and evaluates it; resumes what is half done.

    Args:
      config: with the fields of `config.default`.
      workdir: gets `config.json`, `metrics.jsonl`, `result.json`, `checkpoints/` and
        `tensorboard/`.

    Returns:
      What `result.json` holds, or nothing in a process that does not write for all;
      None if SIGTERM or SIGINT stopped the run, which is saved then and goes on when
      it is called again.

    Raises:
      ValueError: if something the configuration asks for cannot work, before anything
        is written; if another process runs in the directory; or if none of its
        checkpoints is whole.
      OSError: if something cannot be written; earlier checkpoints stay. If the data
        set is not prepared, before anything is written.
      FloatingPointError: if a loss is not finite; earlier checkpoints stay.
    """
    workdir = pathlib.Path(workdir)
    config_lib.check(config)
    workdirs.check_config(workdir, config)
    if (result := workdirs.read_result(workdir)) is not None:
        return result
    # Again below: to load data and teacher takes a while.
    if multihost.is_main_process():
        lock.ensure_unlocked(workdir)
    experiment = Experiment(config)
    with (
        lock.acquire(workdir)
        if multihost.is_main_process()
        else contextlib.nullcontext()
    ):
        workdirs.check_config(workdir, config)
        if (result := workdirs.read_result(workdir)) is not None:
            return result
        return _run_phases(experiment, workdir)


def _run_phases(experiment: Experiment, workdir: pathlib.Path) -> dict[str, Any] | None:
    """Runs phase after phase; returns the result, or None if stopped."""
    config = experiment.config
    if multihost.is_main_process():
        workdirs.create(workdir, config)
    made_with = {
        **workdirs.provenance(),
        "config": workdirs.as_json(config),
    }
    outcomes: dict[str, _Outcome] = {}
    state = None
    steps_before = 0
    with signals.stop_requests() as stop_requested:
        for phase in experiment.phases:
            outcome = _run_phase(
                experiment,
                phase,
                # The student's training has the folder to itself, its checkpoints are
                # what others load.
                workdir if phase is experiment.phases[-1] else workdir / phase.name,
                state,
                made_with,
                multihost.preemption_sync(steps_before)
                if multihost.is_multihost()
                else lambda _step: stop_requested(),
            )
            steps_before += phase.total_steps + 1
            if outcome is None:
                return None
            outcomes[phase.name], state = outcome, outcome.state

    if not multihost.is_main_process():
        return {}
    result = {
        **_figures(experiment, outcomes),
        "parameters": experiment.parameters,
        **made_with,
    }
    workdirs.write_result(workdir, result)
    return result


class _Outcome(NamedTuple):
    """How a phase ended: its final state and what was measured on the way."""

    state: TrainState
    wall_s: float
    log: RunLog


def _run_phase(
    experiment: Experiment,
    phase: Phase,
    folder: pathlib.Path,
    before: TrainState | None,
    made_with: dict[str, Any],
    stop_requested: Callable[[int], bool],
) -> _Outcome | None:
    """Runs a phase to its end, or what an earlier process left of it.

    Args:
      experiment: that the phase belongs to.
      phase: what to run.
      folder: gets its metrics and checkpoints.
      before: final state of the phase before.
      made_with: stored with every checkpoint.
      stop_requested: tells whether to stop before a step.

    Returns:
      None if the phase was stopped; it is saved then.

    Raises:
      FloatingPointError: if a loss is not finite.
    """
    started = time.monotonic()
    config = experiment.config
    state, frozen = phase.begin(before)
    checkpoints = Checkpoints(
        folder,
        keep_last=config.checkpoint.keep_last,
        keep_best=config.checkpoint.keep_best if phase.evaluate else 0,
    )
    if (resume_step := checkpoints.latest_step) is not None:
        state, metadata = checkpoints.restore(state)
        _check_images(folder, metadata.get("images"), experiment.images)
        # As if this process had run from the beginning.
        started -= metadata["wall_s"]
    last = phase is experiment.phases[-1]
    log = RunLog(
        folder,
        description=config.model if last else f"{config.model}: {phase.name}",
        plan=phase.batches.plan,
        total_steps=phase.total_steps,
        log_every=config.log_every_steps,
        schedule=phase.schedule,
        resume_step=resume_step,
    )
    if experiment.teacher and resume_step is None:
        log.evaluated(f"teacher_{experiment.watched}", 0, experiment.teacher_metrics)

    def save(step: int, state: TrainState, accuracy: float | None) -> None:
        metadata = {
            "wall_s": time.monotonic() - started,
            "images": experiment.images,
            **made_with,
        }
        checkpoints.save(step, state, metadata, accuracy)

    batches = phase.batches.batches(int(state.step), phase.total_steps)
    with log, checkpoints, contextlib.closing(batches):
        try:
            state, finished = _train(
                experiment, phase, state, frozen, batches, log, save, stop_requested
            )
        except FloatingPointError as error:
            kept = checkpoints.latest_step
            place = (
                "no checkpoint" if kept is None else f"the checkpoint of step {kept}"
            )
            raise FloatingPointError(f"{error}; {folder} keeps {place}") from None
    if not finished:
        return None
    if resume_step == phase.total_steps:
        wall_s = metadata["wall_s"]
    else:
        wall_s = time.monotonic() - started
    return _Outcome(state, wall_s, log)


def _check_images(
    folder: pathlib.Path, before: dict[str, int] | None, now: dict[str, int]
) -> None:
    """Refuses to go on with another number of images, as of a folder that has changed.

    Which ones a step takes depends on how many there are.

    Args:
      folder: of the phase.
      before: images of each split when the checkpoint was made, if that is known.
      now: likewise.
    """
    if before not in (None, now):
        raise ValueError(
            f"{folder}: its checkpoint was trained on a data set of {before} images, "
            f"which has {now} now"
        )


def _train(
    experiment: Experiment,
    phase: Phase,
    state: TrainState,
    frozen: Frozen,
    batches: Iterator[tuple[Any, Any]],
    log: RunLog,
    save: Callable[[int, TrainState, float | None], None],
    stop_requested: Callable[[int], bool],
) -> tuple[TrainState, bool]:
    """Evaluates, saves, takes a batch, steps and logs the step before, to the end.

    Returns:
      The state, and whether the end was reached; if not, it is saved where it stopped.
    """
    config, steps_per_epoch = experiment.config, phase.batches.plan.steps_per_epoch
    evaluate_every = config.evaluate_every_epochs * steps_per_epoch
    save_every = config.checkpoint.every_steps
    first = step = int(state.step)
    # Metrics of the newest step, which may still be under way.
    pending: metrics.Sums | None = None
    while True:
        at_end = step == phase.total_steps
        evaluation_due = at_end or step % evaluate_every == 0
        save_due = evaluation_due or (save_every and step % save_every == 0)
        stop = stop_requested(step)
        if step > first and (save_due or stop):
            log.step_done(step, pending)
            log.pause(step)
            # A state is saved only after every loss that led to it was seen to be
            # finite, and after the records of its steps are written.
            metrics.means(pending)
            pending = None
            accuracy = None
            if evaluation_due and phase.evaluate:
                found = {experiment.watched: phase.evaluate(state)}
                if at_end:
                    found |= experiment.evaluate_at_end(state)
                for split, values in found.items():
                    log.evaluated(split, step, values)
                accuracy = found[experiment.watched]["accuracy"]
            save(step, state, accuracy)
        if at_end or stop:
            return state, at_end

        state, sums = phase.train_step(state, frozen, *next(batches))
        if pending is not None:
            log.step_done(step, pending)
        pending = sums
        step += 1


def _figures(
    experiment: Experiment, outcomes: Mapping[str, _Outcome]
) -> dict[str, Any]:
    """Sums up what a run measured; accuracies are fractions, the last is final."""
    *_, student = outcomes.values()
    watched, test, teacher = map(
        student.log.records, (experiment.watched, "test", "teacher_test")
    )
    # Of equal ones the latest, as the checkpoints keep it.
    best = max(watched, key=lambda record: (record["accuracy"], record["step"]))
    return {
        "final_test_accuracy": test[-1]["accuracy"],
        "final_step": test[-1]["step"],
        # Not known where only the final state was tested.
        "best_test_accuracy": None,
        f"final_{experiment.watched}_accuracy": watched[-1]["accuracy"],
        f"best_{experiment.watched}_accuracy": best["accuracy"],
        "best_step": best["step"],
        "teacher_test_accuracy": teacher[-1]["accuracy"] if teacher else None,
        "images_per_s": student.log.images_per_s,
        "images": experiment.images,
        "skipped": dict(experiment.skipped),
        "wall_s": sum(outcome.wall_s for outcome in outcomes.values()),
        "phases": {
            phase.name: {
                "steps": phase.total_steps,
                "wall_s": outcomes[phase.name].wall_s,
                "images_per_s": outcomes[phase.name].log.images_per_s,
            }
            for phase in experiment.phases
        },
    }
