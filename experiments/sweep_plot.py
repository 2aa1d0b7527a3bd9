"""Draws the score of a sweep's trials by the value of each field."""

import pathlib
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from . import curves


def draw(records: Sequence[dict[str, Any]], file: pathlib.Path) -> None:
    """Writes a PNG with a panel a field.

    Args:
      records: of `sweep.run`, the best trial first; earlier rungs are paler.
      file: where to write.
    """
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


def _numbers(texts: Sequence[str]) -> list[float] | None:
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None
