"""The story of a run, from its configuration to its result.

Training a teacher, a student alone and a distilled student are the same run with
different methods: none, or some.
"""

import contextlib
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections

from kdjax import config as config_lib
from kdjax import metrics, run_directory
from kdjax.checkpoint import Checkpoints
from kdjax.experiment import Experiment
from kdjax.run_log import RunLog
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
      What `result.json` holds; None if SIGTERM or SIGINT stopped the run, which is
      saved then and goes on when it is called again.

    Raises:
      ValueError: if something the configuration asks for cannot work; before anything
        is written.
      FileNotFoundError: if the data set is not prepared; likewise.
      FloatingPointError: if a loss is not finite; earlier checkpoints stay.
    """
    started = time.monotonic()
    workdir = pathlib.Path(workdir)
    config_lib.check(config)
    run_directory.check_config(workdir, config)
    if (result := run_directory.read_result(workdir)) is not None:
        return result

    experiment = Experiment(config)
    state = experiment.initial_state()
    parameters = _count_parameters(experiment, state)

    run_directory.create(workdir, config)
    checkpoints = Checkpoints(
        workdir,
        keep_last=config.checkpoint.keep_last,
        keep_best=config.checkpoint.keep_best,
    )
    if (resume_step := checkpoints.latest_step) is not None:
        state, metadata = checkpoints.restore(state)
        # As if this process had run from the beginning.
        started -= metadata["wall_s"]
    log = RunLog(
        workdir,
        description=config.model,
        batches=experiment.batches,
        total_steps=experiment.total_steps,
        log_every=config.log_every_steps,
        schedule=experiment.schedule,
        resume_step=resume_step,
    )
    if experiment.teacher and resume_step is None:
        log.evaluated("teacher_test", 0, experiment.teacher_metrics)

    made_with = {
        **run_directory.provenance(),
        "config": run_directory.as_json(config),
    }

    def save(step: int, state: TrainState, test_accuracy: float | None) -> None:
        metadata = {"wall_s": time.monotonic() - started, **made_with}
        checkpoints.save(step, state, metadata, test_accuracy)

    with log, checkpoints, _stop_requests() as stop_requested:
        try:
            finished = _train(experiment, state, log, save, stop_requested)
        except FloatingPointError as error:
            kept = checkpoints.latest_step
            place = (
                "no checkpoint" if kept is None else f"the checkpoint of step {kept}"
            )
            raise FloatingPointError(f"{error}; {workdir} keeps {place}") from None
    if not finished:
        return None

    result = {
        **_figures(experiment, log),
        "wall_s": time.monotonic() - started,
        "parameters": parameters,
        **made_with,
    }
    run_directory.write_result(workdir, result)
    return result


def _train(
    experiment: Experiment,
    state: TrainState,
    log: RunLog,
    save: Callable[[int, TrainState, float | None], None],
    stop_requested: Callable[[], bool],
) -> bool:
    """Evaluates, saves, takes a batch, steps and logs the step before, to the end.

    Returns:
      Whether the end was reached; if not, the state is saved where it stopped.
    """
    config, batches = experiment.config, experiment.batches
    evaluate_every = config.evaluate_every_epochs * batches.steps_per_epoch
    save_every = config.checkpoint.every_steps
    first = step = int(state.step)
    # Metrics of the newest step, which may still be under way.
    pending: metrics.Sums | None = None
    order = None
    while True:
        at_end = step == experiment.total_steps
        evaluation_due = at_end or step % evaluate_every == 0
        save_due = evaluation_due or (save_every and step % save_every == 0)
        stop = stop_requested()
        if step > first and (save_due or stop):
            log.step_done(step, pending)
            log.pause(step)
            # A state is saved only after every loss that led to it was seen to be
            # finite, and after the records of its steps are written.
            metrics.means(pending)
            pending = None
            test_accuracy = None
            if evaluation_due:
                found = experiment.evaluate(_student_variables(state)).metrics
                log.evaluated("test", step, found)
                test_accuracy = found["accuracy"]
            save(step, state, test_accuracy)
        if at_end or stop:
            return at_end

        if order is None or step % batches.steps_per_epoch == 0:
            order = batches.order(step // batches.steps_per_epoch)
        state, sums = experiment.train_step(
            state,
            experiment.frozen,
            batches.split,
            order.full if batches.is_full(step) else order.rest,
        )
        if pending is not None:
            log.step_done(step, pending)
        pending = sums
        step += 1


def _student_variables(state: TrainState) -> dict[str, Any]:
    return {
        "params": state.params["student"],
        "batch_stats": state.batch_stats["student"],
    }


def _count_parameters(experiment: Experiment, state: TrainState) -> dict[str, Any]:
    """Counts the parameters of student, teacher and what each method learns."""

    def count(tree: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    teacher = experiment.teacher
    return {
        "student": count(state.params["student"]),
        "teacher": count(teacher.variables["params"]) if teacher else None,
        "method": {name: count(p) for name, p in state.params["methods"].items()},
    }


def _figures(experiment: Experiment, log: RunLog) -> dict[str, Any]:
    """Sums up what a run measured; accuracies are fractions, the last is final."""
    tests = log.test_records()
    # Of equal ones the latest, as the checkpoints keep it.
    best = max(tests, key=lambda record: (record["accuracy"], record["step"]))
    teacher = experiment.teacher_metrics
    return {
        "final_test_accuracy": tests[-1]["accuracy"],
        "final_step": tests[-1]["step"],
        "best_test_accuracy": best["accuracy"],
        "best_step": best["step"],
        "teacher_test_accuracy": teacher["accuracy"] if teacher else None,
        "images_per_s": log.images_per_s,
        "images": {
            "train": len(experiment.batches.split.label),
            "test": experiment.test.num_examples,
        },
    }


@contextlib.contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Takes SIGTERM and the first SIGINT as a wish to stop between two steps.

    Yields:
      A function that tells whether the wish was uttered. A second SIGINT interrupts at
      once.
    """
    requested = threading.Event()

    def request(signum: int, _frame) -> None:
        requested.set()
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        # Python lets only the main thread handle signals.
        yield requested.is_set
        return
    before = {s: signal.signal(s, request) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield requested.is_set
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
