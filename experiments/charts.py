"""Charts of a report as SVG, whose colors a page can set.

Text stays text, and ink, grid and muted lines take the page's colors by CSS variables,
so that a page can be read in a light and in a dark theme.
"""

import io
import re
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import curves, pairs, summary

# Stand-ins for the colors of the page, which matplotlib would not take.
INK, MUTED, GRID = "#010203", "#040506", "#070809"

#: CSS variables by the color that stands for them, in lower case.
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    **{
        color.lower(): f"var(--series-{number})"
        for number, color in enumerate(curves.COLORS)
    },
}

#: The colors of rows and networks on a dark page, where those of a light one are dim.
_ON_DARK = ("#4aa3e0", "#ff8a4c", "#33c79a", "#e29bc4", "#f0b429", "#8accf5")


def style(dark: bool) -> str:
    """Returns the CSS of the variables of rows and networks."""
    colors = _ON_DARK if dark else curves.COLORS
    return " ".join(f"--series-{n}: {color};" for n, color in enumerate(colors))


#: Height of the axes of a scatter plot, in points.
_AXIS_POINTS = 240

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kdjax",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
}


def svg(
    draw: Callable[..., None],
    *,
    width: float = 7.2,
    height: float = 3.6,
    panels: int = 1,
) -> str:
    """Returns a figure as an SVG element.

    Args:
      draw: takes the axes of every panel, from left to right.
      width: in inches.
      height: in inches.
      panels: side by side.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots(1, panels, squeeze=False)[0]
        for axis in axes:
            axis.patch.set_alpha(0)
        draw(*axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    return text


def _colors(block: pairs.Block) -> dict[str, str]:
    """Gives each row of a block a color."""
    chosen = {pairs.TEACHER: INK, pairs.BASELINE: MUTED}
    others = [row.label for row in block.rows if row.label not in chosen]
    for index, label in enumerate(others):
        chosen[label] = curves.COLORS[index % len(curves.COLORS)]
    return chosen


def learning_curves(block: pairs.Block) -> str:
    """Draws the mean accuracy by epoch; a band spans the seeds."""
    colors = _colors(block)

    def draw(axis: Axes) -> None:
        ends = {}
        for row in block.rows:
            color = colors[row.label]
            ends[row.label] = float(np.mean(list(row.accuracies.values())))
            if row.role == pairs.TEACHER:
                axis.axhline(ends[row.label], color=color, linestyle=":")
                continue
            mean = curves.mean_curve(row)
            axis.plot(list(mean), list(mean.values()), color=color, linewidth=2)
            if len(row.runs) > 1:
                before = row.first.distill_first_epochs
                of_seeds = [
                    [run.curve[epoch - before] for run in row.runs.values()]
                    for epoch in mean
                ]
                axis.fill_between(
                    list(mean),
                    [min(values) for values in of_seeds],
                    [max(values) for values in of_seeds],
                    color=color,
                    alpha=0.2,
                    linewidth=0,
                )
        axis.set_xlim(left=0)
        axis.set_ylim(curves.accuracy_limits(block.rows))
        axis.set_xlabel("epoch")
        axis.set_ylabel(f"{block.settings.eval_split} accuracy (%)")
        _name_ends(axis, ends, colors)

    height = max(3.6, 0.24 * len(block.rows) + 0.8)
    return svg(draw, width=_width([row.label for row in block.rows]), height=height)


def _width(labels: Sequence[str]) -> float:
    """Returns the inches of a chart that has labels beside its axes."""
    return max(7.2, 4.5 + 0.08 * max(map(len, labels)))


def _name_ends(axis: Axes, ends: dict[str, float], colors: dict[str, str]) -> None:
    """Writes the names of the curves beside their ends."""
    low, high = axis.get_ylim()
    spacing = 0.2 / (axis.figure.get_figheight() - 0.7)
    heights = [(value - low) / (high - low) for value in ends.values()]
    for (label, value), height in zip(
        ends.items(), curves.end_labels(heights, spacing), strict=True
    ):
        axis.annotate(
            f"{label}  {value:.2f}",
            (1.01, height),
            xycoords="axes fraction",
            va="center",
            color=colors[label],
            fontsize=9,
        )


def gains(block: pairs.Block) -> str:
    """Draws the gain of each method over the student alone.

    The seeds are points, the mean is a bar, and from three seeds on a line is its 95 %
    t-interval. The largest gain is on top.
    """
    reference = summary.baseline(block)
    rows = [
        (row, gain)
        for row in block.having(pairs.METHOD)
        if (gain := summary.paired_gain(row.accuracies, reference.accuracies))
    ]
    rows.sort(key=lambda item: item[1].mean)

    def draw(axis: Axes) -> None:
        for place, (row, gain) in enumerate(rows):
            alone = reference.accuracies
            points = [
                row.accuracies[s] - alone[s] for s in row.accuracies if s in alone
            ]
            if gain.low == gain.low:
                axis.plot(
                    [gain.low, gain.high],
                    [place] * 2,
                    color=curves.COLORS[0],
                    linewidth=6,
                    alpha=0.3,
                    solid_capstyle="butt",
                )
            axis.plot(
                points,
                [place] * len(points),
                "o",
                color=INK,
                markersize=4,
                markeredgewidth=0,
                alpha=0.7,
            )
            axis.plot(gain.mean, place, "|", color=INK, markersize=14, mew=2)
        axis.axvline(0, color=MUTED, linewidth=1)
        axis.set_yticks(range(len(rows)), [row.label for row, _ in rows])
        axis.set_ylim(-0.6, len(rows) - 0.4)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("gain over the student alone, percentage points")

    return svg(
        draw,
        width=_width([row.label for row, _ in rows]),
        height=0.32 * len(rows) + 0.9,
    )


def scatter(
    points: Sequence[tuple[str, float, float]], xlabel: str, ylabel: str, *, log: bool
) -> str:
    """Draws named points.

    Args:
      points: name, x and y of each.
      xlabel: of the x axis.
      ylabel: of the y axis.
      log: whether the x axis is logarithmic.
    """

    def draw(axis: Axes) -> None:
        if log:
            axis.set_xscale("log")
        colors = [curves.COLORS[i % len(curves.COLORS)] for i in range(len(points))]
        for (_, x, y), color in zip(points, colors, strict=True):
            axis.plot(x, y, "o", color=color, markersize=6)
        axis.margins(x=0.15, y=0.1)
        for numbers in (axis.xaxis, axis.yaxis):
            numbers.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:,g}"))
            numbers.set_minor_formatter(ticker.FuncFormatter(lambda v, _: f"{v:,g}"))
        low, high = axis.get_ylim()
        heights = [(y - low) / (high - low) for _, _, y in points]
        apart = curves.end_labels(heights, 0.045)
        for (name, x, y), height, color in zip(points, apart, colors, strict=True):
            moved = (height - (y - low) / (high - low)) * _AXIS_POINTS
            axis.annotate(
                name,
                (x, y),
                xytext=(7, moved),
                textcoords="offset points",
                fontsize=8,
                va="center",
                color=color,
            )
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel)

    return svg(draw, width=_width([name for name, *_ in points]), height=4)
