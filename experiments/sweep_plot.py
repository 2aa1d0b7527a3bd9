"""Pictures of one sweep and of several.

Of one, the score of the trials by the value of each field; of several, the test
accuracies with the configurations' own values and with the best.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import curves, summary, sweep_table

_MUTED = "#8A8A8A"

#: Ratio of errors from which on an axis is logarithmic.
_FAR = 8

#: Error in percent below which such an axis shows no difference.
_SMALLEST = 0.05

#: Accuracies that are marked on it.
_ACCURACIES = (10, 50, 70, 80, 90, 95, 97, 98, 99, 99.5, 99.9)


def draw(records: Sequence[dict[str, Any]], file: pathlib.Path) -> None:
    """Writes a PNG with a panel a field, if any trial has a score.

    Args:
      records: of `sweep.run`, the best trial first; earlier rungs are paler, and trials
        that failed are left out.
      file: where to write.
    """
    records = [r for r in records if r["validation_accuracy"] is not None]
    if not records:
        return
    fields = list(records[0]["values"])
    figure = Figure(figsize=(4.2 * len(fields), 3.6), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(fields), squeeze=False, sharey=True)[0]
    last = max(record["rung"] for record in records)
    for axis, field in zip(axes, fields, strict=True):
        texts = [record["values"][field] for record in records]
        numbers = _numbers(texts)
        if numbers is None:
            names = sorted(set(texts))
            numbers = [names.index(text) for text in texts]
            axis.set_xticks(range(len(names)), names)
        elif min(numbers) > 0 and max(numbers) > 20 * min(numbers):
            axis.set_xscale("log")
        for number, record in zip(numbers, records, strict=True):
            best = record is records[0]
            axis.plot(
                number,
                record["validation_accuracy"],
                "*" if best else "o",
                color=curves.COLORS[1 if best else 0],
                markersize=14 if best else 6,
                alpha=1.0 if record["rung"] == last else 0.35,
                markeredgewidth=0,
                zorder=3 if best else 2,
            )
        axis.set_xlabel(field)
        axis.grid(color="#E6E6E6", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("validation accuracy (%)")
    figure.savefig(file)


def draw_sweeps(sweeps: Sequence[Mapping[str, Any]], file: pathlib.Path) -> None:
    """Writes a PNG with a row a sweep, the first on top.

    A hollow circle is the mean accuracy with the configuration's own values, a full one
    that with the best of the sweep, and small points are the seeds.

    Args:
      sweeps: of `sweep_report.read`.
      file: where to write.
    """
    height = 0.26 * len(sweeps) + 1.2
    figure = Figure(figsize=(8, height), dpi=150, layout="constrained")
    axis = figure.subplots()
    blue = curves.COLORS[0]
    kinds = (
        (sweep_table.OWN, "the configuration's own values", _MUTED, "white", -0.16),
        (sweep_table.BEST, "best of the sweep", blue, blue, 0.16),
    )
    all_seeds = []
    for place, sweep in enumerate(reversed(sweeps)):
        ends = [summary.mean_sd(sweep["test_accuracy"][name])[0] for name, *_ in kinds]
        axis.plot(ends, [place] * 2, color=_MUTED, linewidth=1.5, zorder=1)
        for (name, label, color, face, shift), mean in zip(kinds, ends, strict=True):
            seeds = sweep["test_accuracy"][name]
            all_seeds += seeds
            places = [place - shift] * len(seeds)
            axis.plot(seeds, places, ".", color=color, ms=3, alpha=0.6, zorder=2)
            named = {"label": label} if place == 0 else {}
            axis.plot(mean, place, "o", color=color, mfc=face, ms=7, zorder=3, **named)
    axis.set_yticks(
        range(len(sweeps)), [sweep["name"] for sweep in reversed(sweeps)], fontsize=9
    )
    axis.set_ylim(-0.7, len(sweeps) - 0.3)
    axis.set_xlabel("test accuracy after the last epoch (%)")
    _spread(axis, all_seeds)
    axis.grid(axis="x", color="#E6E6E6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    figure.savefig(file)


def _spread(axis: Axes, accuracies: Sequence[float]) -> None:
    """Makes an axis logarithmic in the error where the best would lie too close."""
    worst = 100 - min(accuracies)
    least = max(100 - max(accuracies), _SMALLEST)
    if worst <= _FAR * least:
        return
    axis.set_xscale("function", functions=(_to_log, _from_log))
    axis.set_xlim(100 - 1.1 * worst, 100 - 0.8 * least)
    shown = [x for x in _ACCURACIES if 0.8 * least < 100 - x < 1.1 * worst]
    axis.set_xticks(shown, [f"{x:g}" for x in shown])
    axis.set_xlabel(f"{axis.get_xlabel()}, by the logarithm of the error")


def _to_log(accuracy: np.ndarray) -> np.ndarray:
    return -np.log10(np.maximum(100 - accuracy, _SMALLEST))


def _from_log(value: np.ndarray) -> np.ndarray:
    return 100 - 10**-value


def _numbers(texts: Sequence[str]) -> list[float] | None:
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None
