"""Searches hyperparameters on held-out training images, within a budget.

    python -m experiments.sweep --trials=8 --teacher=runs/teacher --out=runs/sweep \\
        --config=configs/distill.py:kd,wrn_16_2-wrn_10_1,digits \\
        --over=methods.kd.weight=log:0.05:5 --over=task_weight=choice:0.1,1.0

trains each trial on a part of the training images and scores it on the rest, by the
accuracy after the last epoch, the mean over --seeds. The values with the highest score
are then trained on all training images, and so are the configuration's own, with
--final_seeds each: only these accuracies on the test split are printed.

--over may be repeated; FIELD=log:LOW:HIGH and uniform:LOW:HIGH draw numbers,
int:LOW:HIGH integers, choice:A,B,... takes one of several. --search=random draws
independent trials, grid takes all combinations of equally many values each, and halving
begins with short trials and gives the best third of each rung three times the epochs.

What is done is skipped, so the same command again finishes a sweep. What follows `--`
is handed to every run. Below --out are the runs, `sweep.json` with every trial,
`sweep.md`, and `sweep.png` with the score by the value of each field.
"""

import argparse
import json
import pathlib
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import tabulate

from kdjax.cli import command_line, home
from kdjax.runs import console

from . import compare, runs, search, summary
from .runner import STOPPED, Cell, Runner
from .search import Dimension, Trial

#: Of a rung, one trial in so many goes on.
_FACTOR = 3

#: What the final runs of the configuration's own values are called.
_OWN = "own"
_BEST = "best"


class Sweep:
    """Trials, their runs and scores.

    Attributes:
      trials: values of each.
      epochs: of a full training.
    """

    def __init__(self, flags: argparse.Namespace):
        """Draws the trials.

        Raises:
          ValueError: if the flags make no sense.
        """
        self._flags = flags
        dimensions = [Dimension.parse(text) for text in flags.over]
        fields = [dimension.field for dimension in dimensions]
        if len(set(fields)) < len(fields):
            raise ValueError(f"--over names {max(fields, key=fields.count)} twice")
        if not 0 < flags.validation_fraction < 1:
            raise ValueError(
                f"--validation_fraction={flags.validation_fraction} is not between 0 "
                "and 1"
            )
        if flags.search == "grid":
            self.trials = search.grid(dimensions, flags.trials)
        else:
            self.trials = search.random(dimensions, flags.trials, flags.search_seed)
        self.epochs = flags.epochs
        if flags.search == "halving" and not flags.epochs:
            raise ValueError("--search=halving needs --epochs, those of the last rung")

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
        found, _ = runs.read_runs(cell.workdir)
        if not found or found[0].result is None:
            return None
        values.append(list(found[0].curve.values())[-1])
    return statistics.fmean(values)


def run(sweep: Sweep, runner: Runner) -> tuple[list[dict[str, Any]], list[str]]:
    """Runs the trials, rung by rung.

    Returns:
      A record of each trial and rung, the last rung's best trial first; and a line for
      each failure.
    """
    records, failures = [], []
    going = list(range(len(sweep.trials)))
    for rung, (count, epochs) in enumerate(sweep.rungs()):
        going = going[:count]
        cells = [cell for trial in going for cell in sweep.cells(trial, epochs)]
        failures += runner.run(sweep.processes(cells))
        scores = {
            trial: value
            for trial in going
            if (value := score(sweep.cells(trial, epochs))) is not None
        }
        going = search.best(scores, len(scores))
        records = [
            {
                "trial": trial,
                "rung": rung,
                "epochs": epochs,
                "validation_accuracy": scores[trial],
                "values": sweep.trials[trial],
            }
            for trial in going
        ] + records
        if runner.stopped or not going:
            break
    return records, failures


def table(records: Sequence[dict[str, Any]], style: str) -> str:
    """Renders the trials, the best first."""
    rows = [
        {
            "trial": record["trial"],
            **({"epochs": record["epochs"]} if record["epochs"] else {}),
            **record["values"],
            "validation accuracy": f"{record['validation_accuracy']:.2f}",
        }
        for record in records
    ]
    return tabulate.tabulate(rows, "keys", tablefmt=style, disable_numparse=True)


def final_table(finals: dict[str, list[float]], budget: str, style: str) -> str:
    """Renders the test accuracies of the best and of the configuration's values."""
    rows = []
    for name, values in finals.items():
        accuracy = ", ".join(f"{value:.2f}" for value in values)
        if len(values) >= summary.MIN_SEEDS:
            mean, sd = summary.mean_sd(values)
            accuracy = f"{mean:.2f} ± {sd:.2f}"
        label = {_BEST: "best of the sweep", _OWN: "the configuration's own"}[name]
        rows.append(
            {
                "values": label,
                "n": len(values),
                "test accuracy": accuracy,
                "searched by": budget if name == _BEST else "",
            }
        )
    return tabulate.tabulate(rows, "keys", tablefmt=style, disable_numparse=True)


def finals(out: pathlib.Path) -> dict[str, list[float]]:
    """Returns the final runs' test accuracies after the last epoch, in percent."""
    found = {}
    for name in (_BEST, _OWN):
        if (out / name).is_dir():
            done = [run for run in runs.read_runs(out / name)[0] if run.result]
            if done:
                found[name] = [run.result.last_accuracy for run in done]
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
    if records and not runner.stopped:
        cells = sweep.final_cells(records[0]["values"])
        failures += runner.run(sweep.processes(cells))
    _write(flags, records, finals(flags.out))
    for failure in failures:
        console.print_error("failed", failure)
    if runner.stopped:
        print("stopped; the same command resumes", file=sys.stderr)
        return STOPPED
    return 1 if failures else 0


def _write(
    flags: argparse.Namespace,
    records: Sequence[dict[str, Any]],
    accuracies: dict[str, list[float]],
) -> None:
    """Prints the tables and writes them, the records and the picture."""
    if not records:
        return
    trials = len({record["trial"] for record in records})
    seeds = f"{flags.seeds} seed{'s' if flags.seeds > 1 else ''}"
    budget = f"{trials} trials of {seeds}, {flags.search}"

    def text(style: str) -> str:
        parts = [table(records, style)]
        parts += [final_table(accuracies, budget, style)] * bool(accuracies)
        return "\n\n".join(parts) + "\n"

    print(text("simple"), end="")
    content = {"config": flags.config, "trials": records, "test_accuracy": accuracies}
    (flags.out / "sweep.json").write_text(json.dumps(content, indent=1) + "\n")
    (flags.out / "sweep.md").write_text(text("pipe"), encoding="utf-8")
    from . import sweep_plot  # matplotlib takes most of a second.

    sweep_plot.draw(records, flags.out / "sweep.png")


if __name__ == "__main__":
    command_line.run(main)
