"""Puts sweeps side by side: a configuration's own values against the best found.

    python -m experiments.sweep_report --sweeps=runs/sweeps

reads every `sweep.json` below --sweeps, which `experiments.sweep` writes, and names
each sweep by its folder. The table has the test accuracies with both values; below it
stands whether all sweeps had the same budget. `sweeps.jsonl` with a sweep a line,
`sweeps.md` and `sweeps.png` are written to --out, by default --sweeps; a folder with
`sweeps.jsonl` can be read again in place of the sweeps.
"""

import argparse
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tabulate

from kdjax.cli import command_line, home
from kdjax.runs import console

from . import origin, summary, sweep_table

#: The file of all sweeps.
FILE = "sweeps.jsonl"

_BOTH = (sweep_table.OWN, sweep_table.BEST)

_CAPTION = (
    "Test accuracy in percent after the last epoch: mean ± sample sd over the seeds, "
    "or each seed if there are fewer than three, with the configuration's own values "
    "and with the best of the sweep. The best had the highest accuracy on a validation "
    "part of the training images; no choice read the test split. Differences are "
    "percentage points, paired by seed, with [95 % t-interval] from three seeds on; an "
    "interval that contains 0 does not tell the two apart. Nothing is corrected for "
    "the number of sweeps."
)


def read(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the finished sweeps of a folder, the highest accuracy first.

    Returns:
      What each `sweep.json` holds, with the name of its folder as "name".

    Raises:
      ValueError: if there is none, or a file is no sweep of today.
      OSError: if a file cannot be read.
    """
    packed = folder / FILE
    if packed.is_file():
        texts = dict(enumerate(packed.read_text(encoding="utf-8").splitlines(), 1))
        found = [_parse(text, f"{packed}:{line}") for line, text in texts.items()]
    else:
        files = sorted(folder.rglob("sweep.json"))
        found = [
            {"name": file.parent.name, **_parse(file.read_text("utf-8"), str(file))}
            for file in files
        ]
    finished = [sweep for sweep in found if _is_finished(sweep)]
    if not finished:
        raise ValueError(f"sweeps={folder} has no finished sweep")
    return sorted(finished, key=lambda sweep: (-_means(sweep)[1], sweep["name"]))


def _parse(text: str, origin: str) -> dict[str, Any]:
    try:
        sweep = json.loads(text)
        sweep_table.budget(sweep)
        _ = sweep["own"], sweep["trials"][0]["values"], sweep["test_accuracy"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{origin} is no sweep of this version: {error!r}") from None
    return sweep


def _is_finished(sweep: Mapping[str, Any]) -> bool:
    accuracies = sweep["test_accuracy"]
    own, best = (accuracies.get(name, ()) for name in _BOTH)
    return 0 < len(own) == len(best)


def _means(sweep: Mapping[str, Any]) -> tuple[float, float]:
    """Returns the mean accuracy with the own and with the best values."""
    own, best = (summary.mean_sd(sweep["test_accuracy"][name])[0] for name in _BOTH)
    return own, best


def values(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the numbers of a sweep's row."""
    own, best = (dict(enumerate(sweep["test_accuracy"][name])) for name in _BOTH)
    gain = summary.paired_gain(best, own)
    return {
        "own": summary.mean_sd(own.values()),
        "best": summary.mean_sd(best.values()),
        "gain": [x for x in (gain.mean, gain.low, gain.high) if x == x],
        "budget": sweep["budget"],
    }


def _cells(sweep: Mapping[str, Any]) -> dict[str, str]:
    mean, *interval = values(sweep)["gain"]
    ends = ", ".join(f"{end:.2f}" for end in interval)
    own, best = (sweep["test_accuracy"][name] for name in _BOTH)
    return {
        "sweep": sweep["name"],
        "own values": _named(sweep["own"]),
        "n": str(len(own)),
        "own: last epoch": sweep_table.accuracy(own),
        "best values": _named(sweep["trials"][0]["values"]),
        "best: last epoch": sweep_table.accuracy(best),
        "best over own [95 %]": f"{mean:+.2f}" + f" [{ends}]" * bool(ends),
    }


def _named(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name.rpartition('.')[2]} {x}" for name, x in values.items())


def table(sweeps: Sequence[Mapping[str, Any]], style: str) -> str:
    """Renders a row a sweep."""
    return tabulate.tabulate(
        [_cells(sweep) for sweep in sweeps],
        headers="keys",
        tablefmt=style,
        colalign=["left", "left", "right", "right", "left", "right", "right"],
        disable_numparse=True,
    )


def budget(sweeps: Sequence[Mapping[str, Any]]) -> str:
    """Says what the sweeps were given, and whether it was the same for all."""
    kinds = sorted({_budget(sweep) for sweep in sweeps})
    if len(kinds) == 1:
        return f"The budget of every sweep: {kinds[0]}."
    return f"The budgets differ, so the sweeps cannot be compared: {'; '.join(kinds)}."


def _budget(sweep: Mapping[str, Any]) -> str:
    fraction = sweep["budget"]["validation_fraction"]
    spent = sweep_table.budget(sweep)
    return f"{spent}, scored on {100 * fraction:.3g} % of the training images"


def markdown(sweeps: Sequence[Mapping[str, Any]], lines: str) -> str:
    """Renders the table and where its numbers come from.

    Args:
      sweeps: of `read`.
      lines: content of `FILE`, for its checksum.
    """
    checksum = hashlib.sha256(lines.encode()).hexdigest()
    card = {}
    for name in origin.OF_RUNS:
        parts = {x for sweep in sweeps for x in sweep["card"][name].split(", ")}
        card[name] = ", ".join(sorted(parts))
    card["Records"] = f"{FILE} SHA-256 {checksum}"
    parts = [
        "# Own values and the best of a sweep",
        budget(sweeps),
        table(sweeps, "pipe"),
        _CAPTION,
        "## Where the numbers come from",
        "\n".join(f"- {name}: {text}" for name, text in card.items()),
    ]
    return "\n\n".join(parts) + "\n"


def packed(sweeps: Sequence[Mapping[str, Any]]) -> str:
    """Returns the content of `FILE`."""
    return "".join(json.dumps(sweep, sort_keys=True) + "\n" for sweep in sweeps)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the report; returns the exit status, 2 if there is nothing to report."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep_report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--sweeps", type=home.argument, required=True, help="folder of the sweeps")
    add("--out", type=home.argument, help="folder to write to; default: --sweeps")
    flags = parser.parse_args(arguments)
    out = flags.out or flags.sweeps
    try:
        sweeps = read(flags.sweeps)
        out.mkdir(parents=True, exist_ok=True)
        (out / FILE).write_text(packed(sweeps), encoding="utf-8")
        (out / "sweeps.md").write_text(markdown(sweeps, packed(sweeps)), "utf-8")
        from . import sweep_plot  # matplotlib takes most of a second.

        sweep_plot.draw_sweeps(sweeps, out / "sweeps.png")
    except (ValueError, OSError) as error:
        console.print_error("sweep_report", error)
        return 2
    print(table(sweeps, "simple"))
    print(budget(sweeps))
    return 0


if __name__ == "__main__":
    command_line.run(main)
