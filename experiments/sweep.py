"""Searches hyperparameters on held-out training images, within a budget.

    python -m experiments.sweep --trials=8 --teacher=runs/teacher --out=runs/sweep \\
        --config=configs/distill.py:kd,wrn_16_2-wrn_10_1,digits \\
        --over=methods.kd.weight=log:0.05:5 --over=task_weight=choice:0.1,1.0

trains each trial on a part of the training images and scores it on the rest, by the
accuracy after the last epoch, the mean over --seeds. The values with the highest score
are then trained on all training images, and so are the configuration's own, with
--final_seeds each: only these accuracies on the test split are printed.

--over may be repeated; FIELD=log:LOW:HIGH and uniform:LOW:HIGH draw numbers,
times:LOW:HIGH multiples of the configuration's own value, int:LOW:HIGH integers, and
choice:A,B,... takes one of several. --search=random draws independent trials, grid
takes all combinations of equally many values each, and halving begins with short trials
and gives the best third of each rung three times the epochs.

What is done is skipped, so the same command again finishes a sweep. What follows `--`
is handed to every run. Below --out are the runs, `sweep.json` with every trial,
`sweep.md`, and `sweep.png` with the score by the value of each field.
`experiments.sweep_report` puts several sweeps in one table.
"""

import argparse
import json
import pathlib
import shlex
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from kdjax.cli import command_line, home
from kdjax.config import fields
from kdjax.runs import console

from . import compare, origin, runs, search, sweep_table
from .runner import STOPPED, Cell, Runner
from .search import Dimension, Trial

#: Of a rung, one trial in so many goes on.
_FACTOR = 3

#: Folders of the final runs.
_OWN, _BEST = sweep_table.OWN, sweep_table.BEST


class Sweep:
    """Trials, their runs and scores.

    Attributes:
      trials: values of each.
      epochs: of a full training.
      own: the configuration's own values.
    """

    def __init__(self, flags: argparse.Namespace):
        """Draws the trials.

        Raises:
          ValueError, OSError: if the flags or the configuration make no sense.
        """
        self._flags = flags
        dimensions = [Dimension.parse(text) for text in flags.over]
        names = [dimension.field for dimension in dimensions]
        if len(set(names)) < len(names):
            raise ValueError(f"--over names {max(names, key=names.count)} twice")
        if not 0 < flags.validation_fraction < 1:
            raise ValueError(
                f"--validation_fraction={flags.validation_fraction} is not between 0 "
                "and 1"
            )
        self.epochs = flags.epochs
        if flags.search == "halving" and not flags.epochs:
            raise ValueError("--search=halving needs --epochs, those of the last rung")
        own = self._own_values(names)
        self.own = {name: str(value) for name, value in own.items()}
        dimensions = [
            dimension.around(own[dimension.field]) for dimension in dimensions
        ]
        if flags.search == "grid":
            self.trials = search.grid(dimensions, flags.trials)
        else:
            self.trials = search.random(dimensions, flags.trials, flags.search_seed)

    def _own_values(self, names: Sequence[str]) -> dict[str, Any]:
        cell = self._cells(_OWN, {}, self.epochs, 1)[0]
        config = compare.read_config(cell, self._flags.overrides)
        values = {}
        for name in names:
            try:
                values[name] = fields.value(config, name)
            except (KeyError, AttributeError, TypeError):
                raise ValueError(
                    f"--over={name}=...: the configuration has no field {name!r}"
                ) from None
        return values

    def cells(self, trial: int, epochs: int | None) -> list[Cell]:
        """Returns the runs of a trial, one a seed."""
        length = f"_{epochs}_epochs" if self._flags.search == "halving" else ""
        held_out = (
            f"--config.data.validation_fraction={self._flags.validation_fraction}"
        )
        return self._cells(
            f"trial_{trial}{length}",
            self.trials[trial],
            epochs,
            self._flags.seeds,
            held_out,
        )

    def final_cells(self, best: Trial) -> list[Cell]:
        """Returns the runs of the best and of the configuration's own values."""
        count = self._flags.final_seeds
        return [
            *self._cells(_BEST, best, self.epochs, count),
            *self._cells(_OWN, {}, self.epochs, count),
        ]

    def _cells(
        self, name: str, values: Trial, epochs: int | None, seeds: int, *more: str
    ) -> list[Cell]:
        overrides = [f"--config.{field}={value}" for field, value in values.items()]
        overrides += [f"--config.epochs={epochs}"] if epochs else []
        return [
            Cell(
                f"{name} seed {seed}",
                self._flags.config,
                self._flags.out / name / f"seed_{seed}",
                seed,
                self._flags.teacher,
                (*overrides, *more),
            )
            for seed in range(seeds)
        ]

    def processes(self, cells: Sequence[Cell]) -> Sequence[Cell]:
        """Joins the seeds of each trial, if they are to be trained in one program."""
        return compare.in_one_program(cells) if self._flags.replicas else cells

    def rungs(self) -> list[tuple[int, int | None]]:
        """Returns the number of trials and the epochs of each rung."""
        if self._flags.search == "halving":
            return search.rungs(len(self.trials), self.epochs, _FACTOR)
        return [(len(self.trials), self.epochs)]


def score(cells: Sequence[Cell]) -> float | None:
    """Returns the mean validation accuracy in percent; None if a run is not done."""
    values = []
    for cell in cells:
        found = runs.read_runs(cell.workdir)[0] if cell.done else []
        if not found or found[0].result is None:
            return None
        values.append(list(found[0].curve.values())[-1])
    return statistics.fmean(values)


def run(sweep: Sweep, runner: Runner) -> tuple[list[dict[str, Any]], list[str]]:
    """Runs the trials, rung by rung.

    Returns:
      A record of each trial and rung, the last rung's best trial first, and last those
      that failed, whose accuracy is None; and a line for each failure.
    """
    records, failed, failures = [], [], []
    going = list(range(len(sweep.trials)))
    for rung, (count, epochs) in enumerate(sweep.rungs()):
        going = going[:count]
        cells = [cell for trial in going for cell in sweep.cells(trial, epochs)]
        failures += runner.run(sweep.processes(cells))
        scores = {trial: score(sweep.cells(trial, epochs)) for trial in going}
        found = {
            trial: {
                "trial": trial,
                "rung": rung,
                "epochs": epochs,
                "validation_accuracy": value,
                "values": sweep.trials[trial],
            }
            for trial, value in scores.items()
        }
        done = {trial: value for trial, value in scores.items() if value is not None}
        if not runner.stopped:
            failed += [found[trial] for trial in going if trial not in done]
        going = search.best(done, len(done))
        records = [found[trial] for trial in going] + records
        if runner.stopped or not going:
            break
    return records + failed, failures


def final_runs(out: pathlib.Path, count: int) -> dict[str, list[runs.Run]]:
    """Returns the final runs by the name of their folder, where all are finished."""
    found = {}
    for name in (_BEST, _OWN):
        if (out / name).is_dir():
            done = [run for run in runs.read_runs(out / name)[0] if run.result]
            if len(done) == count:
                found[name] = sorted(done, key=lambda run: run.seed)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep",
        usage="%(prog)s --config=FILE:ARGUMENT --over=FIELD=KIND:VALUES --trials=N "
        "--out=DIR [...] [-- --config.X=Y]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", required=True, help="configuration file and its argument")
    add("--over", action="append", required=True, help="may be repeated")
    add("--trials", type=compare.count, required=True, help="number of trials")
    add("--search", choices=("random", "grid", "halving"), default="random")
    add("--search_seed", type=int, default=0, help="of the draws; default: 0")
    add("--epochs", type=compare.count, help="in place of the configuration's")
    add("--seeds", type=compare.count, default=1, help="of a trial; default: 1")
    add("--final_seeds", type=compare.count, default=3, help="default: 3")
    add("--replicas", action="store_true", help="all seeds of a trial in one program")
    add("--validation_fraction", type=float, default=0.2, help="default: 0.2")
    add("--teacher", type=home.argument, help="work directory of the teacher")
    add("--jobs", type=compare.count, default=1, help="runs at a time; default: 1")
    add("--out", type=home.argument, required=True, help="folder of all runs")
    add("overrides", nargs="*", help="flags of every run, after --")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a sweep; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    flags = _parser().parse_args(arguments)
    try:
        sweep = Sweep(flags)
        count, epochs = sweep.rungs()[0]
        for trial in range(count):
            compare.check(sweep.cells(trial, epochs)[:1], flags.overrides)
    except (ValueError, OSError) as error:
        console.print_error("sweep", error)
        return 2
    runner = Runner(flags.overrides, jobs=flags.jobs)
    runner.stop_at_signals()
    records, failures = run(sweep, runner)
    scored = bool(records) and records[0]["validation_accuracy"] is not None
    if scored and not runner.stopped:
        cells = sweep.final_cells(records[0]["values"])
        failures += runner.run(sweep.processes(cells))
    if records:
        command = shlex.join(["python", "-m", "experiments.sweep", *arguments])
        _write(flags.out, _content(flags, sweep, records, command))
    for failure in failures:
        console.print_error("failed", failure)
    if runner.stopped:
        print("stopped; the same command resumes", file=sys.stderr)
        return STOPPED
    return 1 if failures else 0


def _content(
    flags: argparse.Namespace,
    sweep: Sweep,
    records: Sequence[dict[str, Any]],
    command: str,
) -> dict[str, Any]:
    """Returns what there is to know of a sweep, as `sweep.json` has it."""
    final = final_runs(flags.out, flags.final_seeds)
    done = [run for found in final.values() for run in found]
    return {
        "config": flags.config,
        "budget": {
            "trials": len({record["trial"] for record in records}),
            "seeds": flags.seeds,
            "search": flags.search,
            "validation_fraction": flags.validation_fraction,
        },
        "own": sweep.own,
        "trials": records,
        "test_accuracy": {
            name: [run.result.last_accuracy for run in found]
            for name, found in final.items()
        },
        "card": origin.card(done, None, command) if done else {},
    }


def _write(out: pathlib.Path, content: dict[str, Any]) -> None:
    """Prints the tables and writes them, the records and the picture."""
    print(sweep_table.text(content, "simple"), end="")
    (out / "sweep.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "sweep.md").write_text(sweep_table.text(content, "pipe"), encoding="utf-8")
    from . import sweep_plot  # matplotlib takes most of a second.

    sweep_plot.draw(content["trials"], out / "sweep.png")


if __name__ == "__main__":
    command_line.run(main)
