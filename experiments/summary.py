"""Statistics of the rows of a report: means, spreads, gains paired by seed."""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from scipy import special

from kdjax.config.fields import OF_METHODS

from . import pairs, published, runs

_CONFIDENCE = 0.95

#: With fewer seeds the single values say more than a spread or an interval.
MIN_SEEDS = 3


@dataclasses.dataclass(frozen=True)
class Gain:
    """A mean paired difference with its interval, in percentage points.

    Attributes:
        mean: Mean over seeds of method minus baseline.
        low, high: The 95 % t-interval of the mean; NaN with less than three seeds.
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
    if seeds >= MIN_SEEDS:
        quantile = special.stdtrit(seeds - 1, (1 + _CONFIDENCE) / 2)
        half = float(quantile) * sd / math.sqrt(seeds)
    return Gain(mean, mean - half, mean + half, seeds)


def baseline(block: pairs.Block) -> pairs.Row | None:
    """Returns the row that gains are measured from: of several baselines the best."""
    return max(
        block.having(pairs.BASELINE),
        key=lambda row: statistics.fmean(row.accuracies.values()),
        default=None,
    )


def published_figure(block: pairs.Block, row: pairs.Row) -> published.Figure | None:
    """Returns the published figure that a row may be compared with.

    None unless all fields that matter to the result are as in the configuration that
    reproduces the figure.
    """
    settings, methods = row.first.settings, row.first.methods
    if row.role != pairs.METHOD or len(methods) > 1 or block.pair is None:
        return None
    pair = "-".join(block.pair)
    figure = published.find(methods[0], pair, settings.data)
    if figure is None or figure.epochs != settings.epochs:
        return None
    # Only runs of the published length come here, and this imports jax.
    from kdjax import method_recipes

    config = method_recipes.of_methods(methods[0], f"{pair},{settings.data}")
    recipe = dataclasses.replace(
        row.first, fields=runs.flatten(json.loads(json.dumps(config.to_dict())))
    ).recipe
    return None if pairs.differences(row.first.recipe, recipe) else figure


def record(block: pairs.Block, row: pairs.Row) -> dict[str, Any]:
    """Returns every column of one row as plain values; None where it has none.

    Accuracies are percent, gains percentage points, times seconds; `images_per_s`
    and `wall_s` are medians over seeds.
    """
    results = [run.result for run in row.runs.values()]
    mean, sd = mean_sd(row.accuracies.values())
    speeds = [r.images_per_s for r in results if r.images_per_s is not None]
    reference = baseline(block)
    gain = None
    if row.role == pairs.METHOD and reference is not None:
        gain = paired_gain(row.accuracies, reference.accuracies)
    figure = published_figure(block, row)
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
        "last_epoch_accuracies": " ".join(f"{a:.2f}" for a in row.accuracies.values()),
        "last_epoch_accuracy": mean,
        "last_epoch_sd": sd,
        "gain": gain and gain.mean,
        "gain_low": gain and gain.low,
        "gain_high": gain and gain.high,
        "gain_seeds": gain and gain.seeds,
        "published_accuracy": figure and figure.accuracy,
        "published_epoch": figure and figure.epoch,
        "published_source": figure and figure.source,
        "best_epoch_accuracy": statistics.fmean(r.best_accuracy for r in results),
        "best_epoch_split": row.eval_split,
        "parameters": results[0].parameters,
        "auxiliary_parameters": results[0].auxiliary_parameters,
        "train_images": results[0].train_images,
        "distill_first_epochs": row.first.distill_first_epochs,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "images_per_s": statistics.median(speeds) if speeds else None,
        "wall_s": statistics.median(r.wall_s for r in results),
        "devices": ", ".join(sorted({r.devices for r in results})),
    }
    missing = {name for name, v in values.items() if isinstance(v, float) and v != v}
    return values | dict.fromkeys(missing)


def notes(block: pairs.Block) -> list[str]:
    """Returns in words what the numbers of a block do not show, or do not allow."""
    methods, reference = block.having(pairs.METHOD), baseline(block)
    lines = []
    taught = {
        f"{run.result.teacher_accuracy:.2f} %"
        for row in methods
        for run in row.runs.values()
        if run.result.teacher_accuracy is not None
    }
    if taught:
        lines.append(
            f"Test accuracy of the teachers in these runs: {', '.join(sorted(taught))}."
        )
    pretrained = [row.label for row in methods if "pretrain" in row.first.result.phases]
    if pretrained:
        lines.append(
            f"Networks of {', '.join(pretrained)} were first trained on the teacher; "
            "epochs do not count that."
        )
    for row in block.rows:
        kept = dict.fromkeys(run.note for run in row.runs.values() if run.note)
        lines += [f"{row.label}: {note}" for note in kept]
    lines += [
        f"{row.label}: published {figure.accuracy:.2f} ({figure.epoch or 'unknown'} "
        f"epoch) with a teacher of {figure.teacher_accuracy:.2f} and a baseline of "
        f"{figure.baseline_accuracy:.2f}, {figure.source}."
        for row in methods
        if (figure := published_figure(block, row))
    ]
    if len(block.having(pairs.BASELINE)) > 1:
        lines.append(f"Gains are over the better baseline, {reference.label}.")
    if methods and reference is None:
        lines.append("No baseline with these settings, so no gain.")
        return lines
    labels: dict[str, list[str]] = {}
    for row in methods:
        for caveat in _caveats(row, reference):
            labels.setdefault(caveat, []).append(row.label)
    return lines + [f"{', '.join(found)}: {text}." for text, found in labels.items()]


def _caveats(row: pairs.Row, reference: pairs.Row) -> list[str]:
    gain = paired_gain(row.accuracies, reference.accuracies)
    if gain is None:
        return ["shares no seed with the baseline, so no gain"]
    caveats = []
    if gain.low <= 0 <= gain.high:
        caveats.append(f"gain not distinguishable from zero with {gain.seeds} seeds")
    if gain.seeds < len(row.runs):
        caveats.append(
            f"gain over the {gain.seeds} of its {len(row.runs)} seeds that the "
            "baseline has, too"
        )
    others = [
        f"{field}={value} (baseline: {base})"
        for field, (value, base) in pairs.differences(
            row.first.recipe, reference.first.recipe
        ).items()
        if field.split(".")[0] not in OF_METHODS
    ]
    if others:
        caveats.append(f"differs from the baseline also in {', '.join(others)}")
    return caveats
