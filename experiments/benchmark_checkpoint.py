"""Times what checkpoints cost a training, and how soon a run makes its first step.

    python -m experiments.benchmark_checkpoint \\
        --config=configs/student.py:wrn_16_2,digits

prints one JSON line; `--config.FIELD=VALUE` changes a field, as in `kdjax.main`.
Figures are medians over rounds in which all of this takes turns:

`save_ms` is how long saving keeps the loop, and `whole_ms` how long it takes, with
that, until the checkpoint of `checkpoint_bytes` is whole on disk while nothing else
goes on.

`steps_ms` is `--steps` training steps, `steps_with_save_ms` as many with a save after
the first, and `stall_ms` what the latter take longer: the save, the wait for the step
before it, and the steps that are slower while it is written. `stall_range_ms`, the
least and the most of any round, says what of it is noise. `stall_share` is the median
as a part of the steps between two saves, of which the configuration makes one every
`save_every_steps`. What is still to be written after the steps, `left_ms`, is in none
of these: if it is more than next to nothing, ask for more steps.

`cold_start_s` and `warm_start_s` are the seconds from the start of `kdjax.main` until
its first step, without and with a cache of what it compiles; `--nostart` leaves them
out. Everything is written to a temporary folder, below `--folder` if given: that
decides which disk is measured.
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

from kdjax import config as config_lib
from kdjax import phases, train
from kdjax.objective import Frozen
from kdjax.phases import Phase
from kdjax.runs import checkpoint, signals, workdirs
from kdjax.train_state import TrainState

_DEFAULT = "configs/student.py:wrn_16_2,digits"
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, f"As in kdjax.main; default: {_DEFAULT}."
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds; medians are over them.", 1)
_STEPS = flags.DEFINE_integer("steps", 30, "Steps of each kind in a round.", 2)
_START = flags.DEFINE_bool("start", True, "Time the start of runs, too.")
_FOLDER = flags.DEFINE_string("folder", None, "Where to make the temporary folder.")

#: Steps before the first that counts.
_WARM_UP = 3

#: What `kdjax.main` prints after its first step.
_FIRST_STEP = "first step after"


class Training:
    """A phase that makes one step after another, and saves when told."""

    def __init__(
        self,
        phase: Phase,
        state: TrainState,
        frozen: Frozen,
        batches: Iterator[tuple[Any, Any]],
        checkpoints: checkpoint.Checkpoints,
        metadata: dict[str, Any],
    ):
        """Takes over the state; the metadata is saved beside it."""
        self._train_step = phases.build_step(phase)
        self._frozen, self._batches = frozen, batches
        self._checkpoints, self._metadata = checkpoints, metadata
        self.state, self._step = state, int(state.step)

    def run(self, steps: int, *, saves: bool = False) -> float:
        """Makes some steps and returns their seconds; saves after the first if told."""
        start = time.perf_counter()
        pending = None
        for number in range(steps):
            self.state, sums = self._train_step(
                self.state, self._frozen, *next(self._batches)
            )
            self._step += 1
            # As in a run, where a step is under way while the one before is logged.
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
        """Returns the seconds until what is being saved is whole on disk."""
        start = time.perf_counter()
        self._checkpoints.wait()
        return time.perf_counter() - start


def measure(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, *, rounds: int, steps: int
) -> dict[str, Any]:
    """Trains and saves in turns and returns the figures.

    Args:
      config: whose last phase is trained.
      workdir: gets the checkpoints.
      rounds: that medians are over.
      steps: of each kind in a round.

    Raises:
      ValueError: if something the configuration asks for cannot work.
      OSError: if a checkpoint cannot be written, or data or teacher read.
    """
    config_lib.check(config)
    experiment = train.build_experiment(config)
    state = None
    for phase in phases.plan(experiment):
        state, frozen = phases.initial_state(phase, state)
    # Begins where an epoch ends, whose last batch may be smaller and is compiled too.
    epoch = phase.pipeline.plan.steps_per_epoch
    first = max(0, epoch - _WARM_UP + 1)
    step = jax.device_put(state.step + first, state.step.sharding)
    state = state.replace(step=step)
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

    stalls = [
        saving - without
        for saving, without in zip(
            seconds["steps_with_save"], seconds["steps"], strict=True
        )
    ]
    stall_s = statistics.median(stalls)
    interval = save_every_steps(config, epoch)
    between_s = interval * statistics.median(seconds["steps"]) / steps
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
        **{
            f"{name}_ms": round(1e3 * statistics.median(values), 3)
            for name, values in seconds.items()
        },
        "stall_ms": round(1e3 * stall_s, 3),
        "stall_range_ms": [round(1e3 * f(stalls), 3) for f in (min, max)],
        "save_every_steps": interval,
        "stall_share": round(stall_s / between_s, 5),
    }


def save_every_steps(config: ml_collections.ConfigDict, steps_per_epoch: int) -> int:
    """Returns the steps between two saves; an evaluation is followed by one, too."""
    evaluate_every = config.evaluate_every_epochs * steps_per_epoch
    return min(evaluate_every, config.checkpoint.every_steps or evaluate_every)


def start_s(command: list[str], cache: pathlib.Path) -> float:
    """Starts a run and returns the seconds until its first step; then ends it.

    Args:
      command: of the run.
      cache: folder for what it compiles.

    Raises:
      ValueError: if the run makes no step, or ends otherwise than it should.
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
    # A short one may have come to its end first.
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
    """Prints the JSON line; a mistake ends it with one line and status 2."""
    if len(argv) > 1:
        _refuse(f"unexpected argument {argv[1]!r}")
    # Orbax tells of every checkpoint, and of what fails by many tracebacks.
    logging.set_verbosity(logging.FATAL)
    # As Ctrl-C does: what was started is ended, and the folder removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
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
    """Starts the same run twice, with a cache that is empty at first."""
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
    """Parses the flags; a configuration that makes no sense becomes one line."""
    if not any(re.match("--?config(=|$)", argument) for argument in argv):
        # Not as the flag's own default, which would be read on import.
        argv = [argv[0], f"--config={_DEFAULT}", *argv[1:]]
    try:
        return flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        _refuse(f"no such field: {error.args[0]}")
    except (flags.Error, TypeError, ValueError, OSError) as error:
        _refuse(error)


def _refuse(error: object) -> NoReturn:
    """Ends the program with one line and status 2."""
    # An error in a configuration file comes with its traceback before it.
    *_, reason = re.split(r"^\w+(?:Error|Exception): ", str(error), flags=re.MULTILINE)
    print("benchmark_checkpoint:", " ".join(reason.split()), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
