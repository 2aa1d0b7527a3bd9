"""Runs the cells of an experiment, each in a process of its own."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from kdjax.cli.command_line import escaped

from . import schedule

# Status of a run, and of a comparison, that was told to stop and can go on.
STOPPED = os.EX_TEMPFAIL

#: Seconds between two looks at runs that go on at the same time.
_LOOK_S = 0.2


@dataclasses.dataclass(frozen=True)
class Cell:
    """One process of the comparison: a run, or several seeds in one program.

    Attributes:
      name: of the run, for people.
      config: configuration file and its argument.
      workdir: folder of the run; of several, the one of their folders.
      seed: of the run, or of the first.
      teacher: work directory of the teacher, or None.
      overrides: flags of this run.
      replicas: number of seeds.
    """

    name: str
    config: str
    workdir: pathlib.Path
    seed: int
    teacher: pathlib.Path | None = None
    overrides: tuple[str, ...] = ()
    replicas: int = 1

    def command(self, overrides: Sequence[str]) -> list[str]:
        """Returns the command of the run as a shell would split it.

        Args:
          overrides: flags of all runs, before its own.
        """
        teacher = (
            [f"--config.teacher.checkpoint={self.teacher}"] if self.teacher else []
        )
        return [
            *("python", "-m", "kdjax.main"),
            f"--config={self.config}",
            f"--workdir={self.workdir}",
            f"--config.seed={self.seed}",
            *([f"--config.replicas={self.replicas}"] if self.replicas > 1 else []),
            *teacher,
            *overrides,
            *self.overrides,
        ]

    @property
    def folders(self) -> tuple[pathlib.Path, ...]:
        """Returns the work directory of each run."""
        if self.replicas == 1:
            return (self.workdir,)
        seeds = range(self.seed, self.seed + self.replicas)
        return tuple(self.workdir / f"seed_{seed}" for seed in seeds)

    @property
    def num_done(self) -> int:
        """Returns the number of finished runs."""
        return sum((folder / "result.json").exists() for folder in self.folders)

    @property
    def done(self) -> bool:
        """Tells whether all runs are finished."""
        return self.num_done == self.replicas


class Runner:
    """Runs cells in order, one or several at a time.

    Attributes:
      stopped: whether it was told to stop, or a run was.
    """

    def __init__(
        self,
        overrides: Sequence[str],
        *,
        jobs: int = 1,
        seconds: float | None = None,
    ):
        """Takes what all runs share.

        Args:
          overrides: flags that every run gets.
          jobs: runs at a time. Several share the memory of a GPU, and each writes what
            it prints to a file beside its folder.
          seconds: after which the runs are stopped, resumably; None for no limit.
        """
        self._overrides = overrides
        self._jobs = jobs
        self._end = None if seconds is None else time.monotonic() + seconds
        self._running: dict[pathlib.Path, subprocess.Popen] = {}
        self._started: dict[pathlib.Path, float] = {}
        self.stopped = False

    def stop_at_signals(self) -> None:
        """Ends the comparison, resumably, at SIGTERM and SIGINT."""
        signal.signal(signal.SIGTERM, self._stop)
        # The terminal sends it to the running cells too, which save and end.
        signal.signal(signal.SIGINT, self._stop)

    def _stop(self, signum: int, _frame=None) -> None:
        self.stopped = True
        if signum == signal.SIGTERM:
            for process in self._running.values():
                process.terminate()

    def run(self, cells: Sequence[Cell]) -> list[str]:
        """Runs what is not done and returns a line on every failure."""
        from kdjax.runs import trained

        failures = []
        times = schedule.Times.of_finished(cells)
        waiting = [cell for cell in cells if not cell.done]
        going: list[Cell] = []
        while waiting or going:
            unfinished = {f for cell in (*waiting, *going) for f in cell.folders}
            ready = [cell for cell in waiting if cell.teacher not in unfinished]
            for cell in ready[: self._jobs - len(going)] * (not self.stopped):
                waiting.remove(cell)
                name = f"[{cells.index(cell) + 1}/{len(cells)}] {cell.name}"
                left = times.left([cell, *going, *waiting])
                folder = escaped(str(cell.workdir))
                print(f"{name}{left}: {folder}", flush=True)
                if cell.teacher and not trained.is_finished(cell.teacher):
                    teacher = cell.teacher
                    failures.append(f"{cell.workdir}: no finished teacher {teacher}")
                else:
                    self._start(cell, name)
                    going.append(cell)
            if self.stopped and not going:
                break
            for cell in self._ended(going):
                going.remove(cell)
                if failure := self._end_of(cell, times):
                    failures.append(failure)
        return failures

    def _start(self, cell: Cell, name: str) -> None:
        """Starts the process of a run."""
        command = [sys.executable, *cell.command(self._overrides)[1:]]
        environment = {**os.environ, "KDJAX_RUN_NAME": name}
        self._started[cell.workdir] = time.monotonic()
        with contextlib.ExitStack() as files:
            printed = {}
            if self._jobs > 1:
                # JAX takes three quarters of a GPU's memory at once by default.
                environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
                log = cell.workdir.with_suffix(".log")
                log.parent.mkdir(parents=True, exist_ok=True)
                file = files.enter_context(log.open("a"))
                printed = {"stdout": file, "stderr": subprocess.STDOUT}
            self._running[cell.workdir] = subprocess.Popen(
                command, env=environment, **printed
            )

    def _ended(self, going: Sequence[Cell]) -> list[Cell]:
        """Waits for the end of a run, or a moment; stops all when the time is up."""
        if self._end is not None and time.monotonic() > self._end and not self.stopped:
            print("the time is up: saving", flush=True)
            self._stop(signal.SIGTERM)
        if len(going) == 1 and self._jobs == 1 and self._end is None:
            self._running[going[0].workdir].wait()
        ended = [c for c in going if self._running[c.workdir].poll() is not None]
        if going and not ended:
            time.sleep(_LOOK_S)
        return ended

    def _end_of(self, cell: Cell, times: schedule.Times) -> str | None:
        """Notes how a run ended; returns a line if it failed."""
        status = self._running.pop(cell.workdir).wait()
        if cell.done:
            times.add(cell, time.monotonic() - self._started[cell.workdir])
        elif status == STOPPED:
            # Whoever stopped the cell has it saved, and wants no other started.
            self.stopped = True
        elif not self.stopped:
            return f"{cell.workdir}: ended with status {status}"
        return None
