"""Statistics of the rows of a report: means, spreads, gains paired by seed."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import scipy.stats

from . import pairs, runs

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Gain:
    """A mean paired difference with its interval, in percentage points.

    Attributes:
        mean: Mean over seeds of method minus baseline.
        low, high: The 95 % t-interval of the mean; NaN with a single seed.
        seeds: Number of seeds that both have.
    """

    mean: float
    low: float
    high: float
    seeds: int


def mean_sd(values: Iterable[float]) -> tuple[float, float]:
    """Returns the mean and the sample standard deviation, NaN for a single value."""
    values = list(values)
    return statistics.fmean(values), (
        statistics.stdev(values) if len(values) > 1 else math.nan
    )


def paired_gain(
    method: Mapping[int, float], baseline: Mapping[int, float]
) -> Gain | None:
    """Compares accuracies in percent, paired by seed; None if no seed is shared."""
    differences = [method[s] - baseline[s] for s in method if s in baseline]
    if not differences:
        return None
    mean, sd = mean_sd(differences)
    seeds = len(differences)
    half = math.nan
    if seeds > 1:
        quantile = scipy.stats.t.ppf((1 + _CONFIDENCE) / 2, df=seeds - 1)
        half = float(quantile) * sd / math.sqrt(seeds)
    return Gain(mean, mean - half, mean + half, seeds)


def baseline(block: pairs.Block) -> pairs.Row | None:
    """Returns the student alone that gains are measured from: the best, if several."""
    return max(
        block.having(pairs.STUDENT_ALONE),
        key=lambda row: statistics.fmean(row.accuracies.values()),
        default=None,
    )


def record(block: pairs.Block, row: pairs.Row) -> dict[str, Any]:
    """Returns every column of one row as plain values; None where it has none.

    Accuracies are percent, gains percentage points, times seconds; `images_per_s`
    and `wall_s` are medians over seeds.
    """
    results = [run.result for run in row.runs.values()]
    mean, sd = mean_sd(row.accuracies.values())
    speeds = [r.images_per_s for r in results if r.images_per_s is not None]
    alone = baseline(block)
    gain = None
    if row.role == pairs.METHOD and alone is not None:
        gain = paired_gain(row.accuracies, alone.accuracies)
    settings = row.first.settings
    teacher, student = block.pair or (None, None)
    values = {
        "data": settings.data,
        "train_fraction": settings.train_fraction,
        "validation_fraction": settings.validation_fraction,
        "teacher": teacher,
        "student": student,
        "role": row.role,
        "method": row.label,
        "network": row.network,
        "seeds": " ".join(map(str, row.runs)),
        "n": len(results),
        "last_epoch_accuracy": mean,
        "last_epoch_sd": sd,
        "gain": gain and gain.mean,
        "gain_low": gain and gain.low,
        "gain_high": gain and gain.high,
        "gain_seeds": gain and gain.seeds,
        "best_epoch_accuracy": statistics.fmean(r.best_accuracy for r in results),
        "best_epoch_split": row.watched,
        "parameters": results[0].parameters,
        "extra_parameters_while_training": results[0].extra_parameters,
        "train_images": results[0].train_images,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "images_per_s": statistics.median(speeds) if speeds else None,
        "wall_s": statistics.median(r.wall_s for r in results),
        "devices": ", ".join(sorted({r.devices for r in results})),
    }
    missing = {name for name, v in values.items() if isinstance(v, float) and v != v}
    return values | dict.fromkeys(missing)


def notes(block: pairs.Block) -> list[str]:
    """Says in words what the numbers of a block do not show, or do not allow."""
    methods, alone = block.having(pairs.METHOD), baseline(block)
    lines = []
    taught = {
        f"{run.result.teacher_accuracy:.2f} %"
        for row in methods
        for run in row.runs.values()
        if run.result.teacher_accuracy is not None
    }
    if taught:
        lines.append(f"Teacher as measured in the runs: {', '.join(sorted(taught))}.")
    if len(block.having(pairs.STUDENT_ALONE)) > 1:
        lines.append(f"Gains are measured from the better baseline, {alone.label}.")
    if methods and alone is None:
        lines.append("No student alone with these settings, so no gain.")
        return lines
    for row in methods:
        lines += [f"{row.label}: {caveat}." for caveat in _caveats(row, alone)]
    return lines


def _caveats(row: pairs.Row, alone: pairs.Row) -> list[str]:
    gain = paired_gain(row.accuracies, alone.accuracies)
    if gain is None:
        return ["shares no seed with the student alone, so no gain"]
    caveats = []
    if gain.seeds == 1:
        caveats.append("gain of a single seed, so no interval")
    elif gain.low <= 0 <= gain.high:
        caveats.append(f"gain not distinguishable from zero with {gain.seeds} seeds")
    if gain.seeds < len(row.runs):
        caveats.append(
            f"gain over the {gain.seeds} of its {len(row.runs)} seeds that the student "
            "alone has too"
        )
    others = [
        f"{field}={ours} (student alone: {theirs})"
        for field, (ours, theirs) in pairs.differences(
            row.first.recipe, alone.first.recipe
        ).items()
        if field.split(".")[0] not in runs.OF_METHODS
    ]
    if others:
        caveats.append(f"differs from the student alone also in {', '.join(others)}")
    return caveats
