"""Times checkpoints during training, and the start of a run.

    python -m experiments.benchmark_checkpoint \\
        --config=configs/student.py:wrn_16_2,digits

prints one JSON line; `--config.FIELD=VALUE` changes a field, as in `kdjax.main`.
Figures are medians over rounds, in which the measurements alternate:

`save_ms` is how long a save blocks the training loop, and `whole_ms` how long it takes
in all until the checkpoint of `checkpoint_bytes` is on disk, while nothing else runs.

`steps_ms` is the time of `--steps` training steps, `steps_with_save_ms` that of as many
with a save after the first, and `stall_ms` the difference: the save, the wait for the
step before it, and steps that are slower while it is written. `stall_range_ms`, its
least and greatest value in any round, shows the noise. `stall_share` is the median as a
part of the steps between two saves; the configuration saves every `save_every_steps`.
What is still to be written after the steps, `left_ms`, is in none of these: if it is
not close to zero, ask for more steps.

`cold_start_s` and `warm_start_s` are the seconds from the start of `kdjax.main` until
its first step, without and with compiled programs in the cache; `--nostart` omits them.
Everything is written to a temporary folder, below `--folder` if given: that decides
which disk is measured.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import jax
import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from kdjax import phases, train
from kdjax.cli import command_line
from kdjax.config import checks
from kdjax.objective import Frozen
from kdjax.phases import Phase
from kdjax.runs import checkpoint, config_files, messages, signals, workdirs
from kdjax.train_state import TrainState

_DEFAULT = "configs/student.py:wrn_16_2,digits"
# Apart from absl's own flags, so that importing this module adds none to others.
_FLAGS = flags.FlagValues()
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, f"As in kdjax.main; default: {_DEFAULT}.", flag_values=_FLAGS
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 5, "Rounds; medians are over them.", 1, flag_values=_FLAGS
)
_STEPS = flags.DEFINE_integer(
    "steps", 30, "Steps of each kind in a round.", 2, flag_values=_FLAGS
)
_START = flags.DEFINE_bool(
    "start", True, "Time the start of runs, too.", flag_values=_FLAGS
)
_FOLDER = flags.DEFINE_string(
    "folder", None, "Where to create the temporary folder.", flag_values=_FLAGS
)

#: Steps before the first that is timed.
_WARM_UP = 3

#: What `kdjax.main` prints after its first step.
_FIRST_STEP = "first step after"


class Training:
    """Runs training steps and saves."""

    def __init__(
        self,
        phase: Phase,
        state: TrainState,
        frozen: Frozen,
        batches: Iterator[tuple[Any, Any]],
        checkpoints: checkpoint.Checkpoints,
        metadata: dict[str, Any],
    ):
        """Takes over the state; the metadata is saved with it."""
        self._train_step = phases.build_step(phase)
        self._frozen, self._batches = frozen, batches
        self._checkpoints, self._metadata = checkpoints, metadata
        self.state, self._step = state, int(state.step)

    def run(self, steps: int, *, saves: bool = False) -> float:
        """Returns the seconds of some steps; with `saves`, saves after the first."""
        start = time.perf_counter()
        pending = None
        for number in range(steps):
            self.state, sums = self._train_step(
                self.state, self._frozen, *next(self._batches)
            )
            self._step += 1
            # As in a run, which logs a step while the next one is computed.
            jax.block_until_ready(pending)
            pending = sums
            if saves and number == 0:
                jax.block_until_ready(pending)
                self.save()
        jax.block_until_ready(pending)
        return time.perf_counter() - start

    def save(self) -> float:
        """Starts saving and returns the seconds until the loop can go on."""
        start = time.perf_counter()
        self._checkpoints.save(self._step, self.state, self._metadata)
        return time.perf_counter() - start

    def wait(self) -> float:
        """Returns the seconds until the save is on disk."""
        start = time.perf_counter()
        self._checkpoints.wait()
        return time.perf_counter() - start


def measure(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, *, rounds: int, steps: int
) -> dict[str, Any]:
    """Trains and saves alternately and returns the figures.

    Args:
      config: its last phase is trained.
      workdir: gets the checkpoints.
      rounds: number of repetitions.
      steps: of each kind in a round.

    Raises:
      ValueError: if the configuration is invalid.
      OSError: if a checkpoint cannot be written, or data or teacher read.
    """
    phase, state, frozen = _last_phase(config)
    first = int(state.step)
    metadata = {
        "wall_s": 0.0,
        **workdirs.provenance(),
        "config": workdirs.as_json(config),
    }
    seconds: dict[str, list[float]] = {
        name: [] for name in ("save", "whole", "steps", "steps_with_save", "left")
    }
    batches = phase.pipeline.batches(first, first + _WARM_UP + 2 * rounds * steps)
    keep = {name: config.checkpoint[name] for name in ("keep_last", "keep_best")}
    with (
        contextlib.closing(batches),
        checkpoint.Checkpoints(workdir, **keep) as checkpoints,
    ):
        training = Training(phase, state, frozen, batches, checkpoints, metadata)
        training.run(_WARM_UP, saves=True)
        training.wait()
        for _ in range(rounds):
            seconds["steps"].append(training.run(steps))
            seconds["save"].append(training.save())
            seconds["whole"].append(seconds["save"][-1] + training.wait())
            seconds["steps_with_save"].append(training.run(steps, saves=True))
            seconds["left"].append(training.wait())
        newest = workdir / checkpoint.FOLDER / str(checkpoints.latest_step)

    interval = save_every_steps(config, phase.pipeline.plan.steps_per_epoch)
    return {
        "model": config.model,
        "batch": config.batch_size,
        "dtype": config.dtype,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "jax": jax.__version__,
        "steps": steps,
        "parameter_bytes": _bytes(training.state.params),
        "state_bytes": _bytes(training.state),
        "checkpoint_bytes": sum(
            path.stat().st_size for path in newest.rglob("*") if path.is_file()
        ),
        "save_every_steps": interval,
        **_medians(seconds, interval / steps),
    }


def _medians(seconds: dict[str, list[float]], intervals: float) -> dict[str, Any]:
    """Returns the medians over rounds in milliseconds, and those of the stall.

    Args:
      seconds: of each round, by what took them.
      intervals: steps between two saves, in units of the steps of a round.
    """
    pairs = zip(seconds["steps_with_save"], seconds["steps"], strict=True)
    stalls = [saving - without for saving, without in pairs]
    between = intervals * statistics.median(seconds["steps"])
    return {
        **{
            f"{name}_ms": round(1e3 * statistics.median(values), 3)
            for name, values in seconds.items()
        },
        "stall_ms": round(1e3 * statistics.median(stalls), 3),
        "stall_range_ms": [round(1e3 * f(stalls), 3) for f in (min, max)],
        "stall_share": round(statistics.median(stalls) / between, 5),
    }


def _last_phase(
    config: ml_collections.ConfigDict,
) -> tuple[Phase, TrainState, Frozen]:
    """Builds the last phase of a run and its state a few steps before an epoch ends.

    The last batch of an epoch may be smaller, which compiles the step once more.
    """
    checks.check(config)
    experiment = train.build_experiment(config)
    state = None
    for phase in phases.plan(experiment):
        state, frozen = phases.initial_state(phase, state)
    first = max(0, phase.pipeline.plan.steps_per_epoch - _WARM_UP + 1)
    step = jax.device_put(state.step + first, state.step.sharding)
    return phase, state.replace(step=step), frozen


def save_every_steps(config: ml_collections.ConfigDict, steps_per_epoch: int) -> int:
    """Returns the steps between two saves; a run also saves after evaluations."""
    evaluate_every = config.evaluate_every_epochs * steps_per_epoch
    return min(evaluate_every, config.checkpoint.every_steps or evaluate_every)


def start_s(command: list[str], cache: pathlib.Path) -> float:
    """Starts a run and returns the seconds until its first step; then ends it.

    Args:
      command: of the run.
      cache: folder for what it compiles.

    Raises:
      ValueError: if the run makes no step, or fails.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            wait_for_first_step(run.stderr)
            seconds = time.perf_counter() - start
        finally:
            run.terminate()
            run.communicate()
    # A short run may have finished first.
    if run.returncode not in (0, signals.STOPPED):
        raise ValueError(f"a run ended with status {run.returncode}")
    return seconds


def wait_for_first_step(lines: Iterable[str]) -> None:
    """Reads what a run prints until it has made its first step.

    Raises:
      ValueError: if it makes none; repeats its last line.
    """
    line = "it printed nothing"
    for line in lines:
        if _FIRST_STEP in line:
            return
    raise ValueError(f"a run made no step: {line.strip()}")


def main(argv: list[str]) -> None:
    """Prints the JSON line; a user's mistake ends it with one line and status 2."""
    if len(argv) > 1:
        _refuse(f"unexpected argument {argv[1]!r}")
    # Orbax logs every checkpoint, and errors that it raises as well.
    logging.set_verbosity(logging.FATAL)
    # As Ctrl-C: ends the processes started and removes the folder.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    file = config_flags.get_config_filename(_FLAGS["config"])
    overrides = config_flags.get_override_values(_FLAGS["config"])
    report = {"config": file} | ({"overrides": overrides} if overrides else {})
    try:
        with tempfile.TemporaryDirectory(
            prefix="benchmark_checkpoint_", dir=_FOLDER.value
        ) as name:
            folder = pathlib.Path(name)
            # First: this process has not taken the accelerator's memory yet.
            starts = _starts(folder, file, overrides) if _START.value else {}
            report |= measure(
                _CONFIG.value,
                folder / "saves",
                rounds=_ROUNDS.value,
                steps=_STEPS.value,
            )
    except (ValueError, OSError) as error:
        _refuse(error)
    except KeyboardInterrupt:
        print("benchmark_checkpoint: stopped", file=sys.stderr)
        sys.exit(signals.STOPPED)
    print(json.dumps(report | starts))


def _starts(
    folder: pathlib.Path, file: str, overrides: dict[str, Any]
) -> dict[str, float]:
    """Times the start of the same run twice, first with an empty cache."""
    command = [
        *(sys.executable, "-m", "kdjax.main", f"--config={file}"),
        *(f"--config.{name}={value}" for name, value in overrides.items()),
    ]
    return {
        f"{kind}_start_s": start_s(
            [*command, f"--workdir={folder / kind}"], folder / "cache"
        )
        for kind in ("cold", "warm")
    }


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; an error in it or in a config file becomes one line."""
    if not any(re.match("--?config(=|$)", argument) for argument in argv):
        # Not the flag's own default, which would be read on import.
        argv = [argv[0], f"--config={_DEFAULT}", *argv[1:]]
    try:
        rest = _FLAGS(config_files.with_paths(argv), known_only=True)
        return flags.FLAGS(rest)
    except Exception as error:
        _refuse(messages.parsing_error(error, argv))


def _refuse(error: object) -> NoReturn:
    """Ends the program with one line and status 2."""
    print("benchmark_checkpoint:", messages.one_line(error), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    command_line.run(lambda: app.run(main, flags_parser=_parse_flags))
