"""Draws learning curves: accuracy by epoch, one panel for each block of rows.

The accuracy is that on the test split or, where the runs were watched on one, on a
validation part; the axis says which, and the legend of a row that differs.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import pairs

# Okabe and Ito's palette, which people with any color vision can tell apart; its
# yellow is left out, for it is lost on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_TEACHER, _STUDENT_ALONE = "#000000", "#8A8A8A"
_DASHES = ("-", "--", ":", "-.")


def draw(blocks: Sequence[pairs.Block], file: Path) -> None:
    """Writes the curves of all blocks as a PNG.

    Each seed is a thin line and their mean a thick one; the legend gives the mean
    test accuracy after the last epoch.

    Args:
        blocks: One panel each; must not be empty.
        file: Where to write; overwritten if it exists.
    """
    columns = math.ceil(math.sqrt(len(blocks)))
    rows = math.ceil(len(blocks) / columns)
    figure = Figure(figsize=(7.6 * columns, 4.2 * rows), dpi=150, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.12)
    styles = _styles(blocks)
    for panel, block in zip(panels, blocks, strict=False):
        _draw_block(panel, block, styles)
    for panel in panels[len(blocks) :]:
        panel.set_axis_off()
    figure.savefig(file)


def mean_curve(row: pairs.Row) -> dict[float, float]:
    """Returns the mean accuracy in percent by epoch, where all seeds were measured."""
    curves = [run.curve for run in row.runs.values()]
    return {
        epoch: float(np.mean([curve[epoch] for curve in curves]))
        for epoch in curves[0]
        if all(epoch in curve for curve in curves)
    }


def accuracy_limits(rows: Sequence[pairs.Row]) -> tuple[float, float]:
    """Returns limits of the accuracy axis in percent that favor late epochs.

    The steep first epochs run out of the picture below the 20th percentile of all
    points; the last point of every seed stays in it.
    """
    curves = [list(run.curve.values()) for row in rows for run in row.runs.values()]
    curves = [curve for curve in curves if curve]
    if not curves:
        return 0.0, 100.0
    points = np.concatenate(curves)
    low = min(np.percentile(points, 20), *(curve[-1] for curve in curves))
    high = points.max()
    margin = max(0.06 * (high - low), 0.5)
    return float(max(low - margin, 0)), float(min(high + margin, 100))


def _styles(blocks: Sequence[pairs.Block]) -> dict[str, dict[str, str]]:
    """Gives each label a color and dashes, the same in all panels."""
    styles = {
        pairs.TEACHER: {"color": _TEACHER, "linestyle": "-"},
        pairs.STUDENT_ALONE: {"color": _STUDENT_ALONE, "linestyle": "-"},
    }
    labels = dict.fromkeys(row.label for block in blocks for row in block.rows)
    others = [label for label in labels if label not in styles]
    for index, label in enumerate(others):
        styles[label] = {
            "color": _COLORS[index % len(_COLORS)],
            "linestyle": _DASHES[index // len(_COLORS) % len(_DASHES)],
        }
    return styles


def _draw_block(
    panel: Axes, block: pairs.Block, styles: dict[str, dict[str, str]]
) -> None:
    for row in block.rows:
        style = styles[row.label]
        if len(row.runs) > 1:
            for run in row.runs.values():
                points = list(run.curve), list(run.curve.values())
                panel.plot(*points, **style, linewidth=0.7, alpha=0.45)
        mean = mean_curve(row)
        last = np.mean(list(row.accuracies.values()))
        name = row.label
        if row.watched != block.settings.watched:
            name = f"{name} ({row.watched})"
        panel.plot(
            list(mean),
            list(mean.values()),
            **style,
            linewidth=2.2,
            marker="o" if len(mean) < 10 else None,
            markersize=4,
            label=f"{name}  {last:.2f} %",
        )
    panel.set_ylim(accuracy_limits(block.rows))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    panel.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    panel.set_title(block.heading, loc="left", fontweight="bold", pad=20)
    panel.text(0, 1.02, str(block.settings), transform=panel.transAxes, color="#555555")
    panel.set_xlabel("epoch")
    panel.set_ylabel(f"{block.settings.watched} accuracy (%)")
    panel.grid(color="#E6E6E6", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    # Beside the panel: inside, it would sooner or later hide a curve.
    panel.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        title="mean on test after the last epoch",
        alignment="left",
        frameon=False,
    )
