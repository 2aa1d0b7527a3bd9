"""The story of a run, from its config to its result.

Training a teacher, a student from scratch and a distilled student are the same run with
different methods: none, or some. A run has one phase or several, one after the other,
each with its own metrics and checkpoints. A configuration may describe several runs,
which then make each step in one program, see `kdjax.replicas`.
"""

import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import ml_collections

from kdjax import loop, numerics, phase_run, phases, results, setup
from kdjax.cli import home
from kdjax.config import checks, replicas
from kdjax.data.split import Description
from kdjax.phase_run import PhaseRun
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


class Ended(NamedTuple):
    """How the phases of a run ended.

    Attributes:
      outcomes: of the phases, by name.
      failure: what ended the run before its end; None if it is finished.
    """

    outcomes: dict[str, Outcome]
    failure: FloatingPointError | None


def train_and_evaluate(
    config: ml_collections.ConfigDict, workdir: str | pathlib.Path
) -> dict[str, Any] | None:
    """Trains a network, with or without a teacher, and evaluates it; resumes.

    Args:
      config: with the fields of `config.default`.
      workdir: gets `config.json`, `metrics.jsonl`, `result.json`, `checkpoints/` and
        `tensorboard/`; with `replicas` or `replicas_over`, a folder with these for each
        run.

    Returns:
      The content of `result.json`, or {} in all but the main process; of several runs,
      these by the names of their folders. None if SIGTERM or SIGINT stopped the
      training, which is saved then and resumes when this is called again.

    Raises:
      ValueError: if the config asks for something impossible, before anything is
        written; if another process runs in the directory; or if all its checkpoints
        are damaged.
      OSError: if something cannot be written; earlier checkpoints stay. If the data
        set is not prepared, before anything is written.
      FloatingPointError: if a loss is not finite; earlier checkpoints stay, and of
        several runs the others are finished.
    """
    workdir = home.expanded(workdir)
    description = checks.check(config, jax.device_count())
    numerics.check_determinism(config)
    several = replicas.are_asked_for(config)
    if several:
        workdirs.check_no_run(workdir)
    found = {}
    with numerics.matmul_precision(config), contextlib.ExitStack() as claims:
        unfinished = {}
        for name, run_config in replicas.split(config).items():
            trained.refuse_imported(workdir / name)
            claimed = claim.claimed(workdir / name, run_config)
            found[name] = claims.enter_context(claimed)
            if found[name] is None:
                unfinished[name] = run_config
        if unfinished:
            trained.check_present(config)
            summary.announce(config, description, workdir)
            ended = _train(unfinished, description, workdir)
            if ended is None:
                return None
            found |= ended
    return found if several else found[""]


def _train(
    configs: Mapping[str, ml_collections.ConfigDict],
    description: Description,
    workdir: pathlib.Path,
) -> dict[str, dict[str, Any]] | None:
    """Trains the runs that are not finished and writes their results.

    Args:
      configs: of the runs, by the names of their folders.
      description: of the data set.
      workdir: where these folders are.

    Returns:
      The results by name; None if the training was stopped.
    """
    folders = {name: workdir / name for name in configs}
    data = inputs.of_data(next(iter(configs.values())).data, description)
    for name, config in configs.items():
        inputs.check(folders[name], config, data)
    experiments = build_experiments(configs, description)
    # One teacher for all of them.
    loaded = next(iter(experiments.values())).teacher
    teacher = inputs.of_teacher(loaded and loaded.variables)
    for name, config in configs.items():
        inputs.check(folders[name], config, teacher)
        phase_run.check_resumable(
            experiments[name], phases.plan(experiments[name]), folders[name]
        )
    if multihost.is_main_process():
        for name, config in configs.items():
            workdirs.set_result_aside(folders[name])
            workdirs.create(folders[name], config)
            inputs.write(folders[name], data | teacher)
    ended = run_phases(experiments, folders)
    if ended is None:
        return None
    found = {name: {} for name in ended}
    if multihost.is_main_process():
        for name, (outcomes, failure) in ended.items():
            if failure is None:
                found[name] = results.summarize(
                    experiments[name], outcomes, together=len(ended)
                )
                workdirs.write_result(folders[name], found[name])
    if failures := [str(run.failure) for run in ended.values() if run.failure]:
        raise FloatingPointError("; ".join(failures))
    return found


def build_experiments(
    configs: Mapping[str, ml_collections.ConfigDict],
    description: Description | None = None,
) -> dict[str, Experiment]:
    """Builds the experiments of several runs on the same data with the same teacher.

    Args:
      configs: of the runs, by name.
      description: of the data set, if it is known.
    """
    (first, config), *others = configs.items()
    experiment = build_experiment(config, description)
    return {first: experiment} | {
        name: setup.with_config(experiment, config) for name, config in others
    }


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
    experiments: Mapping[str, Experiment], folders: Mapping[str, pathlib.Path]
) -> dict[str, Ended] | None:
    """Runs one phase after the other, in each of them all runs that have not failed.

    Args:
      experiments: of the runs, by name.
      folders: of the runs.

    Returns:
      How the runs ended, by name; None if they were stopped.
    """
    ended = {name: Ended({}, None) for name in experiments}
    states = dict.fromkeys(experiments)
    plans = [phases.plan(experiment) for experiment in experiments.values()]
    with signals.stop_requests() as requested:
        stop = multihost.preemption_sync() if multihost.is_multihost() else requested
        for of_all in zip(*plans, strict=True):
            runs: dict[str, PhaseRun] = {}
            with contextlib.ExitStack() as stack:
                for name, phase in zip(experiments, of_all, strict=True):
                    if ended[name].failure is not None:
                        continue
                    folder = phase_run.folder_of(phase, folders[name])
                    run = PhaseRun(
                        experiments[name],
                        phase,
                        folder,
                        states[name],
                        label=name,
                        draws_bar=not runs,
                    )
                    runs[name] = stack.enter_context(run)
                if not loop.train(list(runs.values()), stop):
                    return None
            for name, run in runs.items():
                states[name], outcomes = run.state, ended[name].outcomes
                if run.failure is None:
                    outcomes = outcomes | {run.phase.name: run.outcome()}
                ended[name] = Ended(outcomes, run.failure)
    return ended
