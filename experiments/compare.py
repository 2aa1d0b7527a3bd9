"""Runs a comparison: every method on every pair over several seeds.

    python -m experiments.compare --data=digits --pairs=wrn_16_2-wrn_16_1 \\
        --methods=none,overhaul --seeds=3 --out=runs/comparison

Each cell is an ordinary run in a folder of its own, `DATA/PAIR/METHOD/seed_N` below
`--out`, and each teacher one in `DATA/teachers/NETWORK/seed_N`. What is done is
skipped and what is half done goes on, so the same command again finishes the job. A
cell that fails does not stop the others. What follows `--` is handed to every run:

    python -m experiments.compare ... -- --config.epochs=30 --config.dtype=bfloat16

`experiments.report` turns the folders into a table and plots.
"""

import dataclasses
import math
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
import time

from absl import app, flags

_CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
_ALONE = "none"

# Status of a run, and of a comparison, that was told to stop and can go on.
_STOPPED = 75

_DATA = flags.DEFINE_string("data", "cifar100", "Data set.")
_PAIRS = flags.DEFINE_list("pairs", None, "Pairs, teacher-student, with commas.")
_METHODS = flags.DEFINE_list(
    "methods", [_ALONE, "overhaul"], "Methods with commas; none is the student alone."
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds 0 to N-1 of every cell.", 1)
_TEACHER_SEEDS = flags.DEFINE_integer(
    "teacher_seeds",
    None,
    "Teachers of each network; seed s learns from teacher s modulo N. Default: one a "
    "seed.",
    1,
)
_TEACHER = flags.DEFINE_string(
    "teacher", None, "Work directory of a trained teacher to use instead of training."
)
_OUT = flags.DEFINE_string("out", None, "Folder of all runs.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands, one a line.")
flags.mark_flags_as_required(["pairs", "out"])


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the comparison.

    Attributes:
      config: file under configs/ and its argument.
      workdir: folder of the run.
      seed: of the run.
      teacher: work directory of the teacher, or None.
    """

    config: str
    workdir: pathlib.Path
    seed: int
    teacher: pathlib.Path | None = None

    def command(self, overrides: list[str]) -> list[str]:
        """Returns the command of the run as a shell would split it."""
        teacher = (
            [f"--config.teacher.checkpoint={self.teacher}"] if self.teacher else []
        )
        return [
            *("python", "-m", "kdjax.main"),
            f"--config={os.path.relpath(_CONFIGS)}/{self.config}",
            f"--workdir={self.workdir}",
            f"--config.seed={self.seed}",
            *teacher,
            *overrides,
        ]

    @property
    def done(self) -> bool:
        """Tells whether the run is finished."""
        return (self.workdir / "result.json").exists()


def plan(
    out: pathlib.Path,
    *,
    data: str,
    pairs: list[str],
    methods: list[str],
    seeds: int,
    teacher_seeds: int | None = None,
    teacher: pathlib.Path | None = None,
) -> list[Cell]:
    """Lists the runs of a comparison, every teacher before those it teaches.

    Students alone are shared by the pairs they belong to, and teachers likewise.

    Raises:
      ValueError: if a pair or a method is unknown; or if one given teacher is to
        serve several networks.
    """
    for method in methods:
        if method != _ALONE and not (_CONFIGS / f"{method}.py").exists():
            raise ValueError(f"methods: there is no configs/{method}.py")
    for pair in pairs:
        if pair.count("-") != 1:
            raise ValueError(f"pairs: {pair!r} is not of the form teacher-student")
    networks = {pair.split("-")[0] for pair in pairs}
    if teacher and len(networks) > 1:
        raise ValueError(f"teacher={teacher} cannot be all of {sorted(networks)}")

    root = out / data
    cells = {}

    def add(cell: Cell) -> None:
        cells.setdefault(cell.workdir, cell)

    taught = [method for method in methods if method != _ALONE]
    for pair in pairs:
        network, student = pair.split("-")
        for seed in range(seeds):
            guide = teacher
            if taught and not teacher:
                guide_seed = seed % (teacher_seeds or seeds)
                guide = root / "teachers" / network / f"seed_{guide_seed}"
                add(Cell(f"teacher.py:{network},{data}", guide, guide_seed))
            if _ALONE in methods:
                folder = root / "students" / student / f"seed_{seed}"
                add(Cell(f"student.py:{student},{data}", folder, seed))
            for method in taught:
                folder = root / pair / method / f"seed_{seed}"
                add(Cell(f"{method}.py:{pair},{data}", folder, seed, guide))
    return sorted(cells.values(), key=lambda cell: cell.teacher is not None)


class Runner:
    """Runs cells one after another, each in a process of its own."""

    def __init__(self, overrides: list[str]):
        """Takes the flags that every run gets."""
        self._overrides = overrides
        self._process: subprocess.Popen | None = None
        self._seconds: dict[str, list[float]] = {}
        self.stopped = False
        signal.signal(signal.SIGTERM, self._stop)
        # The terminal sends it to the running cell too, which saves and ends.
        signal.signal(signal.SIGINT, self._stop)

    def _stop(self, signum: int, _frame) -> None:
        self.stopped = True
        if signum == signal.SIGTERM and self._process:
            self._process.terminate()

    def run(self, cells: list[Cell]) -> list[str]:
        """Runs what is not done and returns a line on every failure."""
        failures = []
        for number, cell in enumerate(cells, start=1):
            if cell.done:
                continue
            if self.stopped:
                break
            to_go = self._minutes([c for c in cells[number - 1 :] if not c.done])
            print(f"[{number}/{len(cells)}] {cell.workdir}{to_go}", flush=True)
            if cell.teacher and not (cell.teacher / "result.json").exists():
                failures.append(f"{cell.workdir}: no finished teacher {cell.teacher}")
                continue
            command = [sys.executable, *cell.command(self._overrides)[1:]]
            started = time.monotonic()
            self._process = subprocess.Popen(command)
            status = self._process.wait()
            if cell.done:
                self._seconds.setdefault(cell.config, []).append(
                    time.monotonic() - started
                )
            elif status == _STOPPED:
                # Whoever stopped the cell has it saved, and wants no other started.
                self.stopped = True
            elif not self.stopped:
                failures.append(f"{cell.workdir}: ended with status {status}")
        return failures

    def _minutes(self, cells: list[Cell]) -> str:
        """Guesses the time of the cells from finished ones, if all kinds are known."""
        if not all(cell.config in self._seconds for cell in cells):
            return ""
        total = sum(statistics.fmean(self._seconds[cell.config]) for cell in cells)
        return f", about {math.ceil(total / 60)} min to go"


def main(argv: list[str]) -> int:
    """Plans and runs the comparison; returns the exit status."""
    try:
        cells = plan(
            pathlib.Path(_OUT.value),
            data=_DATA.value,
            pairs=_PAIRS.value,
            methods=_METHODS.value,
            seeds=_SEEDS.value,
            teacher_seeds=_TEACHER_SEEDS.value,
            teacher=_TEACHER.value and pathlib.Path(_TEACHER.value),
        )
    except ValueError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    overrides = argv[1:]
    if _DRY_RUN.value:
        for cell in cells:
            print(shlex.join(cell.command(overrides)))
        return 0
    runner = Runner(overrides)
    failures = runner.run(cells)
    done = sum(cell.done for cell in cells)
    print(f"{done} of {len(cells)} runs done")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if done == len(cells):
        return 0
    if runner.stopped:
        print("stopped; the same command goes on", file=sys.stderr)
        return _STOPPED
    return 1


if __name__ == "__main__":
    app.run(main)
