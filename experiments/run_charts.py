"""Charts of one run, of what `experiments.examine` measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colors, ticker
from matplotlib.axes import Axes

from . import charts, curves

#: Color and line of each network.
_STYLES = {
    "student": {"color": curves.COLORS[0], "linestyle": "-"},
    "teacher": {"color": charts.INK, "linestyle": "--"},
}

#: Classes whose accuracies are drawn: those of the largest differences.
_CLASSES = 20


def reliability(networks: Mapping[str, Mapping[str, Any]]) -> str:
    """Draws the accuracy by the confidence; on the diagonal they are equal.

    Args:
      networks: `examine.classified` of each, by name.
    """

    def draw(axis: Axes) -> None:
        axis.plot([0, 100], [0, 100], color=charts.MUTED, linewidth=1)
        for name, measured in networks.items():
            bins = measured["bins"]
            most = max(part["images"] for part in bins)
            error = 100 * measured["calibration_error"]
            axis.plot(
                [100 * part["confidence"] for part in bins],
                [100 * part["accuracy"] for part in bins],
                label=f"{name}, calibration error {error:.1f} %",
                linewidth=1,
                **_STYLES[name],
            )
            axis.scatter(
                [100 * part["confidence"] for part in bins],
                [100 * part["accuracy"] for part in bins],
                s=[12 + 90 * part["images"] / most for part in bins],
                color=_STYLES[name]["color"],
                linewidth=0,
            )
        axis.set_xlabel("mean confidence (%)")
        axis.set_ylabel("accuracy (%)")
        axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))

    return charts.svg(draw, width=7.2, height=3.6)


def classes(
    names: Sequence[str], student: Sequence[float], teacher: Sequence[float]
) -> str:
    """Draws both networks' accuracy on the classes where they differ most.

    Args:
      names: of the classes.
      student: accuracy on each, None without images.
      teacher: likewise.
    """
    rows = [
        (name, 100 * own, 100 * other)
        for name, own, other in zip(names, student, teacher, strict=True)
        if own is not None
    ]
    rows = sorted(rows, key=lambda row: -abs(row[1] - row[2]))[:_CLASSES]
    rows.sort(key=lambda row: row[1] - row[2])

    def draw(axis: Axes) -> None:
        for place, (_, own, other) in enumerate(rows):
            axis.plot([own, other], [place] * 2, color=charts.MUTED, linewidth=1.5)
        places = range(len(rows))
        for name, column, marker in (("student", 1, "o"), ("teacher", 2, "D")):
            axis.plot(
                [row[column] for row in rows],
                places,
                marker,
                color=_STYLES[name]["color"],
                markersize=6 if name == "student" else 5,
                label=name,
            )
        axis.set_yticks(places, [name for name, *_ in rows])
        axis.set_ylim(-0.6, len(rows) - 0.4)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("accuracy on the class (%)")
        axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))

    return charts.svg(draw, height=0.27 * len(rows) + 0.9)


def spectra(networks: Mapping[str, Mapping[str, Any]]) -> str:
    """Draws the mean singular values of the maps, a panel a stage."""
    of_stages = {name: x["spectra"] for name, x in networks.items()}
    count = max(map(len, of_stages.values()))

    def draw(*axes: Axes) -> None:
        for stage, axis in enumerate(axes):
            for name, values in of_stages.items():
                if stage < len(values):
                    numbers = range(1, len(values[stage]) + 1)
                    # Values of 0 have no logarithm.
                    shown = np.maximum(values[stage], 1e-4)
                    axis.plot(
                        numbers,
                        shown,
                        marker="o" if name == "student" else "D",
                        markersize=3,
                        label=name,
                        **_STYLES[name],
                    )
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(ticker.FuncFormatter(_plain))
            axis.yaxis.set_minor_formatter(ticker.NullFormatter())
            axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=5))
            axis.set_title(f"stage {stage + 1}", fontsize=10, color=charts.INK)
            axis.set_xlabel("singular value, number")
        axes[0].set_ylabel("share of the largest")
        axes[0].legend(frameon=False, fontsize=9)

    return charts.svg(draw, width=2.6 * count, height=2.8, panels=count)


def _plain(value: float, _: int) -> str:
    return f"{value:g}"


def responses(measured: Mapping[str, Any]) -> str:
    """Draws the teacher's responses in units of their margins, a panel a stage."""
    edges = np.asarray(measured["edges"])
    stages = list(zip(measured["shares"], measured["clipped"], strict=True))

    def draw(*axes: Axes) -> None:
        for stage, (axis, (shares, clipped)) in enumerate(
            zip(axes, stages, strict=True), start=1
        ):
            kept = edges[:-1] >= -1 - 1e-9
            percent = 100 * np.asarray(shares)
            for chosen, color in ((~kept, curves.COLORS[1]), (kept, curves.COLORS[0])):
                axis.bar(
                    edges[:-1][chosen],
                    percent[chosen],
                    width=np.diff(edges)[chosen],
                    align="edge",
                    color=color,
                    linewidth=0,
                )
            axis.axvline(-1, color=charts.INK, linewidth=1)
            axis.set_title(
                f"stage {stage}: {100 * clipped:.0f} % clipped",
                fontsize=10,
                color=charts.INK,
            )
            axis.set_xlabel("response / |margin|")
            axis.grid(axis="x", visible=False)
        axes[0].set_ylabel("responses (%)")

    return charts.svg(draw, width=2.6 * len(stages), height=2.8, panels=len(stages))


def graphs(pair: Mapping[str, Any]) -> str:
    """Draws the teacher's and the student's graph of one pair of stages."""
    edges = {name: np.asarray(pair[name]) for name in ("teacher", "student")}
    label = np.asarray(pair["label"])
    floor = 1e-3
    values = np.concatenate([x.ravel() for x in edges.values()])
    most = max(values.max(), 1 / max(values.min(), floor), 1.01)
    borders = np.flatnonzero(np.diff(label)) + 0.5
    centers = [np.flatnonzero(label == name).mean() for name in np.unique(label)]

    def draw(*axes: Axes) -> None:
        for axis, (name, edge) in zip(axes, edges.items(), strict=True):
            picture = axis.imshow(
                np.maximum(edge, floor),
                cmap="RdBu_r",
                norm=colors.LogNorm(1 / most, most),
            )
            axis.grid(visible=False)
            for border in borders:
                axis.axhline(border, color="#777777", linewidth=0.4)
                axis.axvline(border, color="#777777", linewidth=0.4)
            axis.set_xticks(centers, np.unique(label), fontsize=8)
            axis.set_yticks(centers, np.unique(label), fontsize=8)
            axis.tick_params(length=0)
            axis.set_title(name, fontsize=10, color=charts.INK)
            axis.set_xlabel("class at the front")
        axes[0].set_ylabel("class at the back")
        bar = axes[0].figure.colorbar(picture, ax=axes, aspect=30, pad=0.02)
        bar.set_ticks(np.geomspace(1 / most, most, 5))
        bar.ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:.2g}"))
        bar.minorticks_off()
        bar.outline.set_visible(False)
        bar.set_label("edge, in units of 1 / images")

    return charts.svg(draw, width=7.2, height=3.4, panels=2)
