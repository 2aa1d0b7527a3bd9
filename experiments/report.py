"""Makes a table and learning curves out of run folders or records files.

    python -m experiments.report --runs=runs/digits --out=experiments/results/digits

Every folder below `--runs` that holds a `config.json` counts as a run, and so does
every line of a `records.jsonl`, which `experiments.pack` writes. The table is printed
and written as `table.md` and `table.csv`, the curves as `curves.png`, into `--out` (the
`--runs` folder if not given). `--html` also writes `report.html`: tables, charts and
the published figures of the pair on a page that needs no other file. Nothing is
trained, and jax is not imported unless some runs of a method lack hyperparameters that
others have, or a published figure may be comparable.
"""

import argparse
import csv
import functools
import shlex
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tabulate

from kdjax.cli import command_line, home, installation
from kdjax.cli.command_line import escaped
from kdjax.runs import console

from . import origin, pairs, runs, summary

_DASH = "\N{EM DASH}"
_CAPTION = (
    "Test accuracy in percent after the last epoch, mean ± sample sd over n seeds, or "
    "the accuracy of each seed if there are fewer than three. The best epoch is chosen "
    "on the test split and shown for comparison only.",
    "Gain: percentage points over the baseline after the last epoch, paired by seed, "
    "[95 % t-interval] from three seeds on; not corrected for the number of methods.",
    "Auxiliary parameters are trained with the student and not part of it.",
)
_DISTILL_FIRST = (
    "Epochs in two parts: those of distillation alone, then those with the task's loss."
)
_MARK = " v"
_MARKED = (
    "Marked v is a best epoch's accuracy on a validation split of the training images, "
    "where it was chosen; the test split was evaluated once, after the last epoch."
)
_TERMINAL = (
    "method",
    "images",
    "epochs",
    "n",
    "last epoch",
    "gain [95 %]",
    "best epoch",
    "params",
    "wall",
)
#: Headings that a narrow terminal has no room for; the files have them.
_WIDE_ONLY = ("images", "epochs", "params", "wall")


def cells(values: Mapping[str, Any]) -> dict[str, str]:
    """Formats a record for people, by heading."""
    gain = values["gain"]
    gain_text = "" if values["role"] != pairs.METHOD else _DASH
    if gain is not None:
        gain_text = f"{gain:+.2f}"
        if values["gain_low"] is not None:
            gain_text += f" [{values['gain_low']:.2f}, {values['gain_high']:.2f}]"
    accuracy = ", ".join(values["last_epoch_accuracies"].split())
    if values["n"] >= summary.MIN_SEEDS:
        accuracy = (
            f"{values['last_epoch_accuracy']:.2f} ± {values['last_epoch_sd']:.2f}"
        )
    epochs = f"{values['epochs']:g}"
    if values["distill_first_epochs"]:
        epochs = f"{values['distill_first_epochs']:g} + {epochs}"
    speed = values["images_per_s"]
    figure = values["published_accuracy"]
    mark = _MARK if values["best_epoch_split"] == "validation" else ""
    return {
        "method": values["method"],
        "network": values["network"],
        "n": str(values["n"]),
        "last epoch": accuracy,
        "published": "" if figure is None else f"{figure:.2f}",
        "gain [95 %]": gain_text,
        "best epoch": f"{values['best_epoch_accuracy']:.2f}{mark}",
        "params": f"{values['parameters']:,}",
        "auxiliary parameters": f"{values['auxiliary_parameters']:,}",
        "images": f"{values['train_images']:,}",
        "epochs": epochs,
        "batch": str(values["batch_size"]),
        "img/s": _DASH if speed is None else f"{speed:,.0f}",
        "wall": _duration(values["wall_s"]),
    }


def terminal(
    blocks: Sequence[pairs.Block], unfinished: Sequence[str], columns: int = 120
) -> str:
    """Renders the tables for a terminal; below 120 columns without `_WIDE_ONLY`."""
    parts = []
    fill = functools.partial(textwrap.fill, width=min(columns, 100))
    shown = [h for h in _TERMINAL if columns >= 120 or h not in _WIDE_ONLY]
    for block in blocks:
        rows = [cells(summary.record(block, row)) for row in block.rows]
        table = _table([{h: row[h] for h in shown} for row in rows], "simple", 24)
        parts.append(
            "\n".join(
                [escaped(block.title), "", table, "", *map(fill, _notes(block))]
            ).rstrip()
        )
    parts.append("\n".join(map(fill, _caption(blocks))))
    parts.append("\n".join(map(escaped, unfinished)))
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown(
    blocks: Sequence[pairs.Block],
    unfinished: Sequence[str],
    command: str,
    source: Path | None = None,
) -> str:
    """Renders the tables and where their numbers come from as a Markdown page.

    Args:
      blocks: of finished runs.
      unfinished: a line for each unfinished run.
      command: that makes the page.
      source: of the runs, see `collect`.
    """
    parts = ["# Results"]
    for block in blocks:
        rows = [cells(summary.record(block, row)) for row in block.rows]
        parts += [f"## {escaped(block.title)}", _table(rows, "pipe")]
        parts += ["\n".join(f"- {line}" for line in _notes(block))]
    card = origin.card(pairs.runs_of(blocks), source, command)
    parts += [
        *_caption(blocks),
        f"![{' and '.join(_eval_splits(blocks)).capitalize()} accuracy by epoch]"
        "(curves.png)",
        "## Where the numbers come from",
        "\n".join(
            f"- {escaped(line)}"
            for line in (
                *(f"{name}: {text}" for name, text in card.items()),
                *unfinished,
            )
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def collect(source: Path | None) -> tuple[list[pairs.Block], list[str]]:
    """Returns the blocks of finished runs and one line for each unfinished run.

    Raises:
        ValueError: There is no finished run.
    """
    if source is None:
        raise ValueError("--runs=PATH is missing: a folder of runs, or a records file")
    found, unusable = runs.read_runs(source)
    blocks, left_out = pairs.arrange(found)
    for warning in unusable + left_out:
        console.print_error("warning", warning)
    unfinished = [
        f"unfinished: {run.name} (step {run.step})" for run in found if not run.result
    ]
    if not blocks:
        raise ValueError(
            f"no finished run under --runs={source} ({len(unfinished)} unfinished)"
        )
    return blocks, unfinished


def _notes(block: pairs.Block) -> list[str]:
    return [escaped(line) for line in summary.notes(block)]


def _eval_splits(blocks: Sequence[pairs.Block]) -> list[str]:
    """Lists the splits that were evaluated while training."""
    return sorted({row.eval_split for block in blocks for row in block.rows})


def _caption(blocks: Sequence[pairs.Block]) -> tuple[str, ...]:
    rows = [row for block in blocks for row in block.rows]
    return (
        *_CAPTION,
        *[_DISTILL_FIRST] * any(row.first.distill_first_epochs for row in rows),
        *[_MARKED] * ("validation" in _eval_splits(blocks)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the report; returns the exit status, 2 if there are no finished runs."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--runs", type=home.argument, help="folder of runs, or records file"
    )
    parser.add_argument(
        "--out", type=home.argument, help="folder to write to; default: --runs"
    )
    parser.add_argument(
        "--html", action="store_true", help="also write a page for a browser"
    )
    flags = parser.parse_args(arguments)
    out = flags.out or flags.runs
    if out and out.suffix == ".jsonl":
        out = out.parent
    try:
        print(write(flags.runs, out, as_html=flags.html))
    except (ValueError, OSError) as error:
        console.print_error(parser.prog, error)
        return 2
    return 0


def write(source: Path | None, out: Path, *, as_html: bool = False) -> str:
    """Writes the table and the learning curves; returns the table and their names.

    Without matplotlib no curves are drawn.

    Args:
      source: see `collect`.
      out: folder to write to.
      as_html: writes `report.html` too.

    Raises:
      ValueError: see `collect`.
      OSError: if a file cannot be written.
    """
    blocks, unfinished = collect(source)
    out.mkdir(parents=True, exist_ok=True)
    command = ["python", "-m", "experiments.report", f"--runs={source}", f"--out={out}"]
    page, sheet, plot = out / "table.md", out / "table.csv", out / "curves.png"
    text = markdown(blocks, unfinished, shlex.join(command), source)
    page.write_text(text, encoding="utf-8")
    _write_csv(blocks, sheet)
    columns = shutil.get_terminal_size((120, 24)).columns
    said = f"{terminal(blocks, unfinished, columns)}\nwrote {page} {sheet}"
    try:
        installation.require_extra("report", needed_by="drawing curves")
        # matplotlib takes most of a second, which errors need not wait for.
        from . import curves
    except ModuleNotFoundError as error:
        return f"{said}; {error}"
    curves.draw(blocks, plot)
    if as_html:
        from . import page as html

        file = out / "report.html"
        text = html.page(blocks, unfinished, f"{shlex.join(command)} --html", source)
        file.write_text(text, encoding="utf-8")
        said = f"{said} {file}"
    return f"{said} {plot}"


def _write_csv(blocks: Sequence[pairs.Block], file: Path) -> None:
    records = [summary.record(block, row) for block in blocks for row in block.rows]
    with file.open("w", newline="", encoding="utf-8") as sheet:
        writer = csv.DictWriter(sheet, records[0])
        writer.writeheader()
        writer.writerows(records)


def _table(rows: list[dict[str, str]], style: str, widest: int | None = None) -> str:
    # Without columns that no row fills.
    filled = [h for h in rows[0] if any(row[h] for row in rows)]
    # A bar would end a cell of Markdown.
    bar = r"\|" if style == "pipe" else "|"
    rows = [{h: escaped(row[h]).replace("|", bar) for h in filled} for row in rows]
    align = ["left" if h in ("method", "network") else "right" for h in rows[0]]
    return tabulate.tabulate(
        rows,
        headers="keys",
        tablefmt=style,
        colalign=align,
        disable_numparse=True,
        maxcolwidths=[widest] + [None] * (len(align) - 1),
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    command_line.run(main)
