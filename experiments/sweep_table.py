"""The tables of one sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

import tabulate

from . import summary

#: What the final runs are called: with the values of the best trial, and with the
#: configuration's own.
BEST, OWN = "best", "own"


def text(content: Mapping[str, Any], style: str) -> str:
    """Renders what `sweep.json` holds: the trials, and the final accuracies."""
    parts = [_trials(content["trials"], style)]
    accuracies = content["test_accuracy"]
    if accuracies:
        parts.append(_final(accuracies, budget(content), style))
    return "\n\n".join(parts) + "\n"


def budget(content: Mapping[str, Any]) -> str:
    """Says what the best values were searched with."""
    spent = content["budget"]
    seeds = f"{spent['seeds']} seed{'s' if spent['seeds'] > 1 else ''}"
    return f"{spent['trials']} trials of {seeds}, {spent['search']}"


def accuracy(values: Sequence[float]) -> str:
    """Formats accuracies: mean and spread, or each where there are fewer than three."""
    if len(values) < summary.MIN_SEEDS:
        return ", ".join(f"{value:.2f}" for value in values)
    mean, sd = summary.mean_sd(values)
    return f"{mean:.2f} ± {sd:.2f}"


def _trials(records: Sequence[Mapping[str, Any]], style: str) -> str:
    """Renders the trials, the best first."""
    rows = [
        {
            "trial": record["trial"],
            **({"epochs": record["epochs"]} if record["epochs"] else {}),
            **record["values"],
            "validation accuracy": _score(record["validation_accuracy"]),
        }
        for record in records
    ]
    return tabulate.tabulate(rows, "keys", tablefmt=style, disable_numparse=True)


def _score(accuracy: float | None) -> str:
    return "failed" if accuracy is None else f"{accuracy:.2f}"


def _final(accuracies: Mapping[str, list[float]], budget: str, style: str) -> str:
    """Renders the test accuracies of the best and of the configuration's values."""
    labels = {BEST: "best of the sweep", OWN: "the configuration's own"}
    rows = [
        {
            "values": labels[name],
            "n": len(values),
            "test accuracy": accuracy(values),
            "searched by": budget if name == BEST else "",
        }
        for name, values in accuracies.items()
    ]
    return tabulate.tabulate(rows, "keys", tablefmt=style, disable_numparse=True)
