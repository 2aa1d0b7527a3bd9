"""Draws learning curves: accuracy by epoch.

Few methods share a panel, with their names at the ends of the lines; many have a panel
each, together with the baseline. The accuracy is that on the test split or, where runs
were evaluated on one while training, on a validation split; the axis says which.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from . import pairs

#: Okabe and Ito's palette, which people with any color vision can tell apart; its
#: yellow is left out, since it is hard to see on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_TEACHER, _BASELINE, _SHADE = "#000000", "#8A8A8A", "#DCE9F2"

# Rows of methods that share a panel.
_FEW = 3
_COLUMNS = 4

_DISTILL_FIRST = "distillation alone"

# What many panels have, in the legend of all.
_SHARED = (pairs.TEACHER, pairs.BASELINE, _DISTILL_FIRST)

# Distance of labels at the ends of lines as a fraction of the axis, small or not.
_SPACING = {True: 0.11, False: 0.06}

# Characters of a label and of a line of a title.
_LABEL, _TITLE = 60, 60

# The highest label, below the title.
_TOP = 0.98


class Panel(NamedTuple):
    """What is drawn together.

    Attributes:
        block: The block that the rows belong to, whose limits the axis has.
        rows: The rows that are drawn.
        title: What they are.
        small: Whether the panel is one of many, with a method each.
    """

    block: pairs.Block
    rows: tuple[pairs.Row, ...]
    title: str
    small: bool


def draw(blocks: Sequence[pairs.Block], file: Path) -> None:
    """Writes the curves of all blocks as a PNG.

    Each seed is a thin line and their mean a thick one.

    Args:
        blocks: Must not be empty.
        file: Where to write; overwritten if it exists.
    """
    drawn = panels(blocks)
    small = drawn[0].small
    columns = _COLUMNS if small else math.ceil(math.sqrt(len(drawn)))
    columns = min(columns, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    width, height = (3.3, 2.6) if small else (8.2, 4.2)
    size = (width * columns, height * rows + 0.6 * small)
    dpi = 100 if small else 150
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.1)
    colors = _colors(blocks, 1 if small else len(COLORS))
    for axis, panel in zip(axes, drawn, strict=False):
        _draw_panel(axis, panel, colors)
    for axis in axes[len(drawn) :]:
        axis.set_axis_off()
    if small:
        artists = [item for axis in axes for item in (*axis.lines, *axis.patches)]
        named = {artist.get_label(): artist for artist in artists}
        shared = {name: named[name] for name in _SHARED if name in named}
        figure.legend(
            shared.values(),
            shared,
            loc="outside upper left",
            ncols=len(shared),
            frameon=False,
            alignment="left",
            title=blocks[0].title if len(blocks) == 1 else None,
            title_fontproperties={"weight": "bold"},
        )
    figure.savefig(file)


def panels(blocks: Sequence[pairs.Block]) -> list[Panel]:
    """Returns the panels of a figure: one a block or, if any is full, one a method.

    A block is full with more methods than colors are told apart at a glance, or with
    one that begins with epochs of distillation alone.
    """
    methods = [block.having(pairs.METHOD) for block in blocks]
    if not any(
        len(rows) > _FEW or any(row.first.distill_first_epochs for row in rows)
        for rows in methods
    ):
        return [
            Panel(block, block.rows, textwrap.fill(block.title, _TITLE), small=False)
            for block in blocks
        ]
    return [
        Panel(
            block,
            (*(other for other in block.rows if other.role in _SHARED), row),
            textwrap.fill(
                row.label if len(blocks) == 1 else f"{row.label}, {block.heading}", 30
            ),
            small=True,
        )
        for block, rows in zip(blocks, methods, strict=True)
        for row in rows or block.rows
    ]


def mean_curve(row: pairs.Row) -> dict[float, float]:
    """Returns the mean accuracy in percent by epoch, where all seeds were measured.

    Epochs of distillation alone, before those of the curve, count as epochs.
    """
    curves = [run.curve for run in row.runs.values()]
    return {
        row.first.distill_first_epochs + epoch: float(
            np.mean([curve[epoch] for curve in curves])
        )
        for epoch in curves[0]
        if all(epoch in curve for curve in curves)
    }


def accuracy_limits(rows: Sequence[pairs.Row]) -> tuple[float, float]:
    """Returns limits of the accuracy axis in percent: every point stays inside."""
    points = [
        a for row in rows for run in row.runs.values() for a in run.curve.values()
    ]
    points += [a for row in rows for a in row.accuracies.values()]
    low, high = min(points), max(points)
    margin = max(0.04 * (high - low), 0.5)
    return max(low - margin, 0.0), min(high + margin, 100.0)


def end_labels(values: Sequence[float], spacing: float) -> list[float]:
    """Returns positions for labels at some values, moved apart.

    Args:
        values: Where the labels belong, as fractions of the axis; at least one.
        spacing: The least distance between two labels.
    """
    order = np.argsort(values, kind="stable")
    placed = np.asarray(values, float)[order]
    for _ in range(len(placed)):
        for low in range(len(placed) - 1):
            missing = spacing - (placed[low + 1] - placed[low])
            if missing > 1e-9:
                placed[low] -= missing / 2
                placed[low + 1] += missing / 2
    # Labels that would stand above the axis, and those that they push.
    placed[-1] = min(placed[-1], _TOP)
    for low in reversed(range(len(placed) - 1)):
        placed[low] = min(placed[low], placed[low + 1] - spacing)
    positions = np.empty(len(placed))
    positions[order] = placed
    return positions.tolist()


def _colors(blocks: Sequence[pairs.Block], count: int) -> dict[str, str]:
    """Gives each label one of `count` colors, the same in all panels."""
    colors = {pairs.TEACHER: _TEACHER, pairs.BASELINE: _BASELINE}
    labels = dict.fromkeys(row.label for block in blocks for row in block.rows)
    others = [label for label in labels if label not in colors]
    for index, label in enumerate(others):
        colors[label] = COLORS[index % count]
    return colors


def _draw_panel(axis: Axes, panel: Panel, colors: dict[str, str]) -> None:
    block, last = panel.block, {}
    for row in panel.rows:
        color, before = colors[row.label], row.first.distill_first_epochs
        last[row] = float(np.mean(list(row.accuracies.values())))
        if row.role == pairs.TEACHER:
            axis.axhline(last[row], color=color, ls=":", lw=1.2, label=row.label)
            continue
        if len(row.runs) > 1:
            for run in row.runs.values():
                epochs = [before + epoch for epoch in run.curve]
                axis.plot(
                    epochs, list(run.curve.values()), color=color, lw=0.7, alpha=0.45
                )
        mean = mean_curve(row)
        axis.plot(
            list(mean),
            list(mean.values()),
            color=color,
            linewidth=2.2,
            marker="o" if len(mean) < 10 else None,
            markersize=4,
            label=row.label,
        )
        if before:
            axis.axvspan(0, before, color=_SHADE, zorder=0, label=_DISTILL_FIRST)
    axis.set_xlim(left=0)
    axis.set_ylim(accuracy_limits(block.rows))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(color="#E6E6E6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(panel.title, loc="left", fontweight="bold", fontsize=10)
    axis.set_xlabel("epoch")
    axis.set_ylabel(f"{block.settings.eval_split} accuracy (%)")
    _label_ends(axis, panel, last, colors)


def _short(label: str) -> str:
    """Leaves out the end of a label with many settings, which the table has in full."""
    return textwrap.shorten(label, _LABEL, placeholder=" ...")


def _label_ends(
    axis: Axes,
    panel: Panel,
    last: dict[pairs.Row, float],
    colors: dict[str, str],
) -> None:
    """Writes names and accuracies after the last epoch at the ends of lines."""
    low, high = axis.get_ylim()
    positions = end_labels(
        [(value - low) / (high - low) for value in last.values()],
        _SPACING[panel.small],
    )
    for (row, value), position in zip(last.items(), positions, strict=True):
        axis.annotate(
            f"{value:.2f}" if panel.small else f"{_short(row.label)}  {value:.2f}",
            (1.01, position),
            xycoords="axes fraction",
            va="center",
            color=colors[row.label],
            fontsize=9,
        )
