"""Runs the tables of the papers, as far as the time goes, and compares the figures.

    python -m experiments.reproduce ofd --cell=c --budget_minutes=60 --out=runs/ofd

trains the teacher, the student alone and the distilled student of the cells of a
table, under the recipe that its figures were published with:

    ofd        OFD on CIFAR-100, cells a to f of the paper
    mhgd       KD-SVD and MHGD on CIFAR-100
    benchmark  the methods of RepDistiller's README on CIFAR-100

The first seed of every cell comes before the second of any; --seeds is their number,
and one teacher teaches all. When the time is up, the runs save and end, and the same
command goes on. What follows `--` is handed to every run; under other settings than the
published ones (--config.epochs=100) the table says so.

It ends with the published figures beside those of the runs: test accuracy in percent
after the LAST epoch, the mean and its 95 % t-interval from three seeds on.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence

import tabulate
from scipy import special

from kdjax.cli import command_line, home
from kdjax.runs import console

from . import compare, published, runs, summary
from .runner import STOPPED, Cell, Runner


@dataclasses.dataclass(frozen=True)
class Table:
    """A published table.

    Attributes:
      cells: pairs of networks, "teacher-student", by name.
      methods: of each cell, the student alone first.
      recipe: that of the figures, for all runs.
    """

    cells: Mapping[str, str]
    methods: Sequence[str]
    recipe: str


def _named_by_pair(*pairs: str) -> dict[str, str]:
    return {pair: pair for pair in pairs}


TABLES = {
    "ofd": Table(
        {
            "a": "wrn_28_4-wrn_16_4",
            "b": "wrn_28_4-wrn_28_2",
            "c": "wrn_28_4-wrn_16_2",
            "d": "wrn_28_4-resnet56",
            "e": "pyramidnet_200_240-wrn_28_4",
            "f": "pyramidnet_200_240-pyramidnet_110_84",
        },
        ("none", "overhaul"),
        "ofd",
    ),
    "mhgd": Table(
        _named_by_pair(
            "resnet32x4-resnet8x4",
            "wrn_22_4-wrn_10_4",
            "mhgd_vgg16-mhgd_vgg7",
            "wrn_22_4-mhgd_vgg_strided",
            "wrn_22_4-mhgd_mobilenet",
            "wrn_22_4-mhgd_resnet",
        ),
        ("none", "mhgd", "kd_svd"),
        "mhgd",
    ),
    "benchmark": Table(
        _named_by_pair(
            "resnet56-resnet20",
            "wrn_40_2-wrn_16_2",
            "resnet32x4-resnet8x4",
            "vgg13-vgg8",
            "wrn_40_2-wrn_40_1",
            "resnet110-resnet32",
            "resnet32x4-shufflenet_v1",
            "resnet32x4-shufflenet_v2",
            "wrn_40_2-shufflenet_v1",
            "vgg13-mobilenet_v2",
            "resnet50-mobilenet_v2",
        ),
        (
            *(
                "none",
                "kd",
                "crd",
                "dkd",
                "attention_transfer",
                "similarity_preserving",
            ),
            *("vid", "rkd", "pkt", "correlation_congruence", "fitnets", "nst"),
            *("factor_transfer", "activation_boundary", "fsp"),
        ),
        "crd",
    ),
}


def plan(
    out: pathlib.Path,
    table: Table,
    names: Sequence[str],
    *,
    data: str,
    seeds: int,
    methods: Sequence[str] = (),
) -> list[Cell]:
    """Lists the runs in the order of their worth: all cells before another seed.

    Args:
      out: folder of all runs.
      table: to reproduce.
      names: of its cells; none are all.
      data: data set.
      seeds: of every student.
      methods: instead of the table's.

    Raises:
      ValueError: if the table has no such cell.
    """
    unknown = [name for name in names if name not in table.cells]
    if unknown:
        raise ValueError(f"cell={unknown[0]!r} is none of {', '.join(table.cells)}")
    of_pairs = [
        compare.plan(
            out,
            data=data,
            pairs=[table.cells[name]],
            methods=methods or table.methods,
            seeds=seeds,
            recipe=table.recipe,
            teacher_seeds=1,
        )
        for name in names or table.cells
    ]
    ordered = {
        cell.workdir: cell
        for seed in range(seeds)
        for cells in of_pairs
        for cell in cells
        if cell.seed == seed
    }
    return list(ordered.values())


def rows(
    out: pathlib.Path, table: Table, names: Sequence[str], data: str
) -> list[dict[str, str]]:
    """Returns the published figures of some cells beside those of finished runs."""
    found, _ = runs.read_runs(out)
    found = [run for run in found if run.result and run.settings.data == data]
    lines = []
    for name in names or table.cells:
        teacher, student = table.cells[name].split("-")
        figures = {
            figure.method: figure
            for figure in published.read()
            if figure.pair == table.cells[name] and not figure.variant
            if figure.data == "cifar100" and figure.recipe == table.recipe
        }
        if not figures:
            continue
        first = next(iter(figures.values()))
        kinds = [
            ("teacher", first.teacher_accuracy, [r for r in found if _is(r, teacher)]),
            ("alone", first.baseline_accuracy, [r for r in found if _is(r, student)]),
        ]
        kinds += [
            (
                method,
                figure.accuracy,
                [r for r in found if _is(r, student, method, teacher)],
            )
            for method, figure in figures.items()
        ]
        for kind, accuracy, repeats in kinds:
            if repeats:
                lines.append(_row(name, kind, accuracy, first.epochs, repeats))
    return lines


def _is(run: runs.Run, network: str, method: str = "", teacher: str = "") -> bool:
    """Tells whether a run trained a network in this way."""
    methods = (method,) if method else ()
    return (run.network, run.methods, run.teacher) == (network, methods, teacher)


def _row(
    cell: str, kind: str, accuracy: float, epochs: int, repeats: Sequence[runs.Run]
) -> dict[str, str]:
    """Returns one line of the table."""
    values = [run.result.last_accuracy for run in repeats]
    mean, sd = summary.mean_sd(values)
    ours = ", ".join(f"{value:.2f}" for value in values)
    if len(values) >= summary.MIN_SEEDS:
        quantile = float(special.stdtrit(len(values) - 1, 0.975))
        ours = f"{mean:.2f} ± {quantile * sd / math.sqrt(len(values)):.2f}"
    lengths = sorted({run.settings.epochs for run in repeats})
    return {
        "cell": cell,
        "trained": kind,
        "published": f"{accuracy:.2f}",
        "here": ours,
        "n": str(len(values)),
        "difference": f"{mean - accuracy:+.2f}",
        "published epochs": str(epochs),
        "epochs here": ", ".join(f"{length:g}" for length in lengths),
        "device": ", ".join(sorted({run.result.devices for run in repeats})),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.reproduce",
        usage="%(prog)s TABLE --out=DIR [...] [-- --config.X=Y]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("table", choices=TABLES, help="table of a paper")
    add("--cell", type=compare.names, default=[], help="with commas; default: all")
    add("--methods", type=compare.names, default=[], help="default: the table's")
    add("--data", default="cifar100", help="data set; default: cifar100")
    add("--seeds", type=compare.count, default=5, help="seeds of a student; default: 5")
    add("--budget_minutes", type=float, help="time after which the runs save and end")
    add("--jobs", type=compare.count, default=1, help="runs at a time; default: 1")
    add("--out", type=home.argument, required=True, help="folder of all runs")
    add("--dry_run", action="store_true", help="print the commands, one a line")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a table and prints it; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Two positional arguments confuse argparse.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    overrides = arguments[end + 1 :]
    given = _parser().parse_args(arguments[:end])
    table = TABLES[given.table]
    try:
        if given.budget_minutes is not None and not 0 < given.budget_minutes < math.inf:
            raise ValueError(f"budget_minutes={given.budget_minutes} is not positive")
        cells = plan(
            given.out,
            table,
            given.cell,
            data=given.data,
            seeds=given.seeds,
            methods=given.methods,
        )
        if given.dry_run:
            compare.print_commands(cells, overrides)
            return 0
        compare.check([cell for cell in cells if not cell.done], overrides)
    except (ValueError, OSError) as error:
        console.print_error("reproduce", error)
        return 2
    seconds = given.budget_minutes and 60 * given.budget_minutes
    runner = Runner(overrides, jobs=given.jobs, seconds=seconds)
    runner.stop_at_signals()
    failures = runner.run(cells)
    lines = rows(given.out, table, given.cell, given.data)
    if lines:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "reproduced.json").write_text(json.dumps(lines, indent=1) + "\n")
        print(tabulate.tabulate(lines, headers="keys", disable_numparse=True))
    done = sum(cell.done for cell in cells)
    print(f"{done} of {len(cells)} runs done")
    for failure in failures:
        console.print_error("failed", failure)
    if done == len(cells):
        return 0
    if runner.stopped:
        print("stopped; the same command resumes", file=sys.stderr)
        return STOPPED
    return 1


if __name__ == "__main__":
    command_line.run(main)
