"""The story of a run, from its config to its result.

Training a teacher, a student from scratch and a distilled student are the same run with
different methods: none, or some. A run has one phase or several, one after the other,
each with its own metrics and checkpoints.
"""

import pathlib
from typing import Any

import jax
import ml_collections

from kdjax import loop, numerics, results, setup
from kdjax import phases as phases_lib
from kdjax.cli import home
from kdjax.config import checks
from kdjax.data.split import Description
from kdjax.phases import Phase
from kdjax.results import Outcome
from kdjax.runs import (
    claim,
    console,
    inputs,
    multihost,
    signals,
    summary,
    trained,
    workdirs,
)
from kdjax.setup import Experiment


def train_and_evaluate(
    config: ml_collections.ConfigDict, workdir: str | pathlib.Path
) -> dict[str, Any] | None:
    """Trains a network, with or without a teacher, and evaluates it; resumes.

    Args:
      config: with the fields of `config.default`.
      workdir: gets `config.json`, `metrics.jsonl`, `result.json`, `checkpoints/` and
        `tensorboard/`.

    Returns:
      The content of `result.json`, or {} in all but the main process; None if SIGTERM
      or SIGINT stopped the run, which is saved then and resumes when it is called
      again.

    Raises:
      ValueError: if the config asks for something impossible, before anything is
        written; if another process runs in the directory; or if all its checkpoints
        are damaged.
      OSError: if something cannot be written; earlier checkpoints stay. If the data
        set is not prepared, before anything is written.
      FloatingPointError: if a loss is not finite; earlier checkpoints stay.
    """
    workdir = home.expanded(workdir)
    description = checks.check(config, jax.device_count())
    numerics.check_determinism(config)
    trained.refuse_imported(workdir)
    with (
        numerics.matmul_precision(config),
        claim.claimed(workdir, config) as finished,
    ):
        if finished is not None:
            return finished
        trained.check_present(config)
        summary.announce(config, description, workdir)
        data = inputs.of_data(config.data, description)
        inputs.check(workdir, config, data)
        experiment = build_experiment(config, description)
        teacher = inputs.of_teacher(experiment.teacher and experiment.teacher.variables)
        inputs.check(workdir, config, teacher)
        phases = phases_lib.plan(experiment)
        loop.check_resumable(experiment, phases, workdir)
        if multihost.is_main_process():
            workdirs.set_result_aside(workdir)
            workdirs.create(workdir, config)
            inputs.write(workdir, data | teacher)
        outcomes = run_phases(experiment, phases, workdir)
        if outcomes is None:
            return None
        if not multihost.is_main_process():
            return {}
        result = results.summarize(experiment, outcomes)
        workdirs.write_result(workdir, result)
        return result


def build_experiment(
    config: ml_collections.ConfigDict, description: Description | None = None
) -> Experiment:
    """Loads data and teacher, builds networks and methods.

    Args:
      config: of the run.
      description: of the data set, if it is known.

    Raises:
      ValueError: if what the config names does not fit together.
      FileNotFoundError: if the data set is not prepared.
    """
    with console.progress(f"reading {config.data.name}"):
        data = setup.load_data(config, description)
    student = setup.build_student(config, data)
    weights = setup.load_initial_weights(config, data, student)
    methods = setup.build_methods(config, data)
    teacher = setup.load_teacher(config, data, methods)
    precomputed = setup.precompute(config, data, teacher, methods)
    return Experiment(config, data, student, methods, teacher, precomputed, weights)


def run_phases(
    experiment: Experiment, phases: tuple[Phase, ...], workdir: pathlib.Path
) -> dict[str, Outcome] | None:
    """Runs one phase after the other.

    Returns:
      Their outcomes by name, or None if the run was stopped.
    """
    outcomes: dict[str, Outcome] = {}
    state = None
    with signals.stop_requests() as requested:
        stop = multihost.preemption_sync() if multihost.is_multihost() else requested
        for phase in phases:
            run = loop.PhaseRun(
                experiment, phase, loop.folder_of(phase, workdir), state
            )
            if not run.train(stop):
                return None
            state, outcomes[phase.name] = run.state, run.outcome()
    return outcomes
