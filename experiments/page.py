"""A report as one HTML page, which needs nothing but itself."""

import math
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from scipy import stats

from . import charts, examined, origin, pairs, published, summary
from .elements import figure, table, text

_LIGHT = """--ink: #1b1f24; --muted: #8a8a8a; --grid: #e6e6e6; --paper: #ffffff;
  --shade: #f4f6f8; --link: #0059a6;"""
_DARK = """--ink: #e6e8eb; --muted: #8f959c; --grid: #33383e; --paper: #14171a;
  --shade: #1e2226; --link: #7ab8f0;"""
_STYLE = (
    f"""
:root {{ color-scheme: light dark; {_LIGHT} {charts.style(dark=False)} }}
@media (prefers-color-scheme: dark) {{
  :root {{ {_DARK} {charts.style(dark=True)} }} }}
"""
    """
body { background: var(--paper); color: var(--ink); margin: 2rem auto; max-width: 70rem;
  padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.2; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--grid); padding-bottom: .3rem; }
a { color: var(--link); }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid var(--muted); }
tbody tr:nth-child(even) { background: var(--shade); }
figure { margin: 1.5rem 0; }
figcaption, .note { opacity: .8; font-size: .88rem; max-width: 50rem; }
svg { max-width: 100%; height: auto; }
code { background: var(--shade); padding: .1rem .3rem; }
"""
)

_NOTES = (
    "Test accuracy in percent after the last epoch: the mean and the sample standard "
    "deviation over the seeds from three on, or each seed.",
    "Gain: percentage points over the student alone or over KD, paired by seed, with "
    "the 95 % t-interval from three seeds on. p: of a two-sided paired t-test of the "
    "gain over the student alone, corrected for the number of methods of the block by "
    "Holm's procedure.",
    "Auxiliary parameters are trained with the student and dropped afterwards.",
)


def page(
    blocks: Sequence[pairs.Block],
    unfinished: Iterable[str],
    command: str,
    source: pathlib.Path | None = None,
) -> str:
    """Renders the tables and charts of a report.

    Args:
      blocks: of finished runs.
      unfinished: a line for each unfinished run.
      command: that makes the page.
      source: that the runs were read from, if its records are to be named.
    """
    body = ["<h1>Results</h1>"]
    for block in blocks:
        body += [f"<h2>{text(block.title)}</h2>", *_block(block)]
    body += ["<h2>How to read it</h2>", *(f"<p>{text(note)}</p>" for note in _NOTES)]
    body += ["<h2>Where the numbers come from</h2>", _origin(blocks, command, source)]
    body += [f"<p class=note>{text(line)}</p>" for line in unfinished]
    content = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Results</title>\n<style>{_STYLE}</style>\n{content}\n</html>\n"
    )


def _block(block: pairs.Block) -> list[str]:
    """Returns the elements of one block."""
    records = [summary.record(block, row) for row in block.rows]
    parts = [table(_accuracies(block, records)), table(_costs(records))]
    if figures := _published(block):
        parts += ["<h3>Published figures of this pair</h3>", table(figures)]
    parts += [f"<p class=note>{text(line)}</p>" for line in summary.notes(block)]
    parts.append(
        figure(
            charts.learning_curves(block),
            "Mean accuracy by epoch; the band spans the seeds.",
        )
    )
    if block.having(pairs.METHOD) and summary.baseline(block):
        parts.append(
            figure(
                charts.gains(block),
                "Gain over the student alone: seeds, mean, and 95 % interval from "
                "three seeds on.",
            )
        )
    if len(methods := [r for r in records if r["role"] == pairs.METHOD]) > 1:
        speed = [
            (r["method"], r["images_per_s"], r["last_epoch_accuracy"])
            for r in methods
            if r["images_per_s"]
        ]
        parts.append(
            figure(
                charts.scatter(
                    speed, "training images per second", "test accuracy (%)", log=True
                ),
                "Accuracy against the speed of training on the machine of each run.",
            )
        )
    agreements = [
        (row.label, 100 * agreement, record["last_epoch_accuracy"])
        for row, record in zip(block.rows, records, strict=True)
        if row.role == pairs.METHOD and (agreement := _agreement(row)) is not None
    ]
    if len(agreements) > 1:
        parts.append(
            figure(
                charts.scatter(
                    agreements,
                    "images classified as the teacher does (%)",
                    "test accuracy (%)",
                    log=False,
                ),
                "Accuracy against agreement with the teacher, after the last epoch.",
            )
        )
    for row in block.rows:
        parts += examined.elements(row)
    return parts


def _agreement(row: pairs.Row) -> float | None:
    """Returns the mean agreement with the teacher; None if a run has none."""
    values = [run.agreement for run in row.runs.values()]
    return None if None in values else math.fsum(values) / len(values)


def _accuracies(
    block: pairs.Block, records: Sequence[dict[str, Any]]
) -> list[dict[str, str]]:
    """Returns the rows of the table of accuracies."""
    corrected = _corrected_p(block)
    reference = next((row for row in block.rows if row.label == "kd"), None)
    lines = []
    for row, record in zip(block.rows, records, strict=True):
        accuracy = ", ".join(record["last_epoch_accuracies"].split())
        if record["n"] >= summary.MIN_SEEDS:
            accuracy = (
                f"{record['last_epoch_accuracy']:.2f} ± {record['last_epoch_sd']:.2f}"
            )
        over_kd = None
        if row.role == pairs.METHOD and reference not in (None, row):
            over_kd = summary.paired_gain(row.accuracies, reference.accuracies)
        alone = summary.baseline(block)
        over_alone = None
        if row.role == pairs.METHOD and alone is not None:
            over_alone = summary.paired_gain(row.accuracies, alone.accuracies)
        p = corrected.get(row.label)
        lines.append(
            {
                "method": row.label,
                "n": str(record["n"]),
                "last epoch": accuracy,
                "gain over alone": _gain(over_alone),
                "p (Holm)": "" if p is None else f"{p:.3f}",
                "gain over kd": _gain(over_kd),
                "best epoch": f"{record['best_epoch_accuracy']:.2f}",
            }
        )
    return lines


def _gain(gain: summary.Gain | None) -> str:
    if gain is None:
        return ""
    interval = f" [{gain.low:.2f}, {gain.high:.2f}]" if gain.low == gain.low else ""
    return f"{gain.mean:+.2f}{interval}"


def _corrected_p(block: pairs.Block) -> dict[str, float]:
    """Returns Holm's corrected p of each method with three seeds or more, by label."""
    alone = summary.baseline(block)
    found = {}
    for row in block.having(pairs.METHOD) if alone else ():
        shared = [seed for seed in row.accuracies if seed in alone.accuracies]
        if len(shared) >= summary.MIN_SEEDS:
            found[row.label] = stats.ttest_rel(
                [row.accuracies[seed] for seed in shared],
                [alone.accuracies[seed] for seed in shared],
            ).pvalue
    corrected, largest = {}, 0.0
    for rank, (label, p) in enumerate(sorted(found.items(), key=lambda x: x[1])):
        largest = max(largest, min(1.0, (len(found) - rank) * float(p)))
        corrected[label] = largest
    return corrected


def _costs(records: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Returns the rows of the table of costs."""
    return [
        {
            "cost": record["method"],
            "parameters": f"{record['parameters']:,}",
            "auxiliary parameters": f"{record['auxiliary_parameters']:,}",
            "images": f"{record['train_images']:,}",
            "epochs": f"{record['distill_first_epochs']:g} + {record['epochs']:g}"
            if record["distill_first_epochs"]
            else f"{record['epochs']:g}",
            "images/s": ""
            if record["images_per_s"] is None
            else f"{record['images_per_s']:,.0f}",
            "minutes": f"{record['wall_s'] / 60:.1f}",
            "device": record["devices"],
        }
        for record in records
    ]


def _published(block: pairs.Block) -> list[dict[str, str]]:
    """Returns published figures of the methods of a block, with their protocol."""
    if block.pair is None:
        return []
    methods = {row.first.methods for row in block.having(pairs.METHOD)}
    return [
        {
            "method": f"{figure.method} {figure.variant}".strip(),
            "accuracy": f"{figure.accuracy:.2f}",
            "student alone": f"{figure.baseline_accuracy:.2f}",
            "teacher": f"{figure.teacher_accuracy:.2f}",
            "epochs": str(figure.epochs),
            "epoch": figure.epoch or "not stated",
            "runs": "not stated" if figure.runs is None else str(figure.runs),
            "views": str(figure.views),
            "tuned per pair": "yes" if figure.tuned_per_pair else "no",
            "source": figure.source,
        }
        for figure in published.read()
        if (figure.method,) in methods
        and (figure.pair, figure.data) == ("-".join(block.pair), block.settings.data)
    ]


def _origin(
    blocks: Sequence[pairs.Block], command: str, source: pathlib.Path | None
) -> str:
    """Returns where the numbers come from, as a list."""
    card = origin.card(pairs.runs_of(blocks), source, command)
    items = (f"<li>{name}: {_code(text(value))}" for name, value in card.items())
    return f"<ul>{''.join(items)}</ul>"


def _code(value: str) -> str:
    """Turns what stands between backquotes into code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", value)
