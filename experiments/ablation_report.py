"""The table of one question of `experiments.ablations`."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tabulate

from kdjax.cli.command_line import escaped
from kdjax.config.fields import OF_METHODS

from . import origin, published, runs, summary
from .ablation_table import ALONE, Ablation, Setting

#: Settings, and where their runs lie below the folder of all runs.
Folders = Sequence[tuple[Setting, str]]

_CAPTION = (
    "Test accuracy in percent after the last epoch: mean ± sample sd over n seeds, or "
    "each seed if there are fewer than three. Differences are percentage points, "
    "paired by seed, with [95 % t-interval] from three seeds on; an interval that "
    "contains 0 does not tell the two apart. Nothing is corrected for the number of "
    "settings. All students learn from one teacher, so that the spread has no part "
    "that comes from the teacher."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """The runs of one setting.

    Attributes:
      label: of the setting.
      found: finished runs by seed; may be empty.
      over_alone: difference from the student alone on the same images; None without.
      over_default: difference from the question's default; None without.
      published: accuracy in percent; None without.
    """

    label: str
    found: Mapping[int, runs.Run]
    over_alone: summary.Gain | None = None
    over_default: summary.Gain | None = None
    published: float | None = None

    @property
    def accuracies(self) -> dict[int, float]:
        """Test accuracy in percent after the last epoch, by seed."""
        return {seed: run.result.last_accuracy for seed, run in self.found.items()}


def rows(found: Sequence[runs.Run], ablation: Ablation, folders: Folders) -> list[Row]:
    """Sorts the finished runs of a question into the rows of its table.

    Args:
      found: finished runs, others among them.
      ablation: the question.
      folders: of its settings, in the order of the rows.
    """
    made = [
        (
            setting,
            Row(
                setting.label,
                {r.seed: r for r in found if r.name.rpartition("/")[0] == folder},
            ),
        )
        for setting, folder in folders
    ]
    default = next((row for _, row in made if row.label == ablation.default), None)
    complete = []
    for setting, row in made:
        alone = next(
            (r for s, r in made if s.method == ALONE and _same(s, setting)), None
        )
        over_default = None
        if default not in (None, row) and setting.method != ALONE:
            over_default = summary.paired_gain(row.accuracies, default.accuracies)
        over_alone = None
        if alone not in (None, row):
            over_alone = summary.paired_gain(row.accuracies, alone.accuracies)
        complete.append(
            dataclasses.replace(
                row,
                over_alone=over_alone,
                over_default=over_default,
                published=_published(setting, row),
            )
        )
    return complete


def _same(alone: Setting, setting: Setting) -> bool:
    """Tells whether a setting differs from one alone in fields of methods only."""
    # `task_weight` weighs the task against a method; the student alone has 1.
    methods = (*OF_METHODS, "task_weight")
    shared = {
        field: value
        for field, value in setting.fields.items()
        if field.split(".")[0] not in methods
    }
    return shared == dict(alone.fields)


def _published(setting: Setting, row: Row) -> float | None:
    """Returns the published accuracy of a setting for the networks of its runs."""
    if setting.variant is None or not row.found:
        return None
    run = next(iter(row.found.values()))
    pair = f"{run.teacher}-{run.network}"
    for figure in published.read():
        own = (figure.method, figure.variant, figure.pair, figure.data, figure.epochs)
        if own == (
            *(setting.method, setting.variant, pair),
            *(run.settings.data, run.settings.epochs),
        ):
            return figure.accuracy
    return None


def values(row: Row) -> dict[str, Any]:
    """Returns the numbers of a row; None where it has none."""
    mean, sd = summary.mean_sd(row.accuracies.values())
    numbers = {
        "label": row.label,
        "n": len(row.found),
        "accuracies": list(row.accuracies.values()),
        "mean": mean,
        "sd": sd if len(row.found) >= summary.MIN_SEEDS else None,
        "published": row.published,
    }
    for name, gain in (("alone", row.over_alone), ("default", row.over_default)):
        shown = gain and (gain.mean, gain.low, gain.high)
        numbers[name] = [x for x in shown or () if x == x]
    return numbers


def cells(row: Row) -> dict[str, str]:
    """Formats a row for people, by heading."""
    numbers = values(row)
    accuracy = ", ".join(f"{value:.2f}" for value in numbers["accuracies"])
    if numbers["sd"] is not None:
        accuracy = f"{numbers['mean']:.2f} ± {numbers['sd']:.2f}"
    figure = row.published
    return {
        "setting": row.label,
        "n": str(numbers["n"]),
        "last epoch": accuracy,
        "over alone [95 %]": _difference(numbers["alone"]),
        "over the default [95 %]": _difference(numbers["default"]),
        "published": "" if figure is None else f"{figure:.2f}",
    }


def _difference(numbers: Sequence[float]) -> str:
    if not numbers:
        return ""
    mean, *interval = numbers
    ends = ", ".join(f"{end:.2f}" for end in interval)
    return f"{mean:+.2f}" + f" [{ends}]" * bool(ends)


def table(made: Sequence[Row], style: str) -> str:
    """Renders the rows that have runs, without columns that no row fills."""
    shown = [cells(row) for row in made if row.found]
    headings = [name for name in shown[0] if any(row[name] for row in shown)]
    return tabulate.tabulate(
        [{name: row[name] for name in headings} for row in shown],
        headers="keys",
        tablefmt=style,
        colalign=["left"] + ["right"] * (len(headings) - 1),
        disable_numparse=True,
    )


def collect(out: pathlib.Path, ablation: Ablation, folders: Folders) -> list[Row]:
    """Reads the runs of a question.

    Raises:
      ValueError: if none is finished.
    """
    found, _ = runs.read_runs(out)
    made = rows([run for run in found if run.result], ablation, folders)
    if not any(row.found for row in made):
        raise ValueError(f"out={out} has no finished run of this question and form")
    return made


def page(
    name: str, ablation: Ablation, made: Sequence[Row], out: pathlib.Path, command: str
) -> str:
    """Renders a question, its table and where the numbers come from as Markdown."""
    found = [run for row in made for run in row.found.values()]
    taught = sorted(
        {
            f"{run.result.teacher_accuracy:.2f} %"
            for run in found
            if run.result.teacher_accuracy is not None
        }
    )
    pairs = sorted({f"{run.teacher} to {run.network}" for run in found if run.teacher})
    what = {str(run.settings) for run in found}
    about = [f"{', '.join(pairs)}; {'; '.join(sorted(what))}."]
    about += [f"Test accuracy of the teacher: {', '.join(taught)}."] * bool(taught)
    default = ablation.default
    about += [f"The default is: {default}."] * bool(default)
    card = origin.card(found, out, command)
    parts = [
        f"# {name}",
        f"{ablation.question} Asked by {ablation.source}.",
        " ".join(about),
        table(made, "pipe"),
        _CAPTION,
        "## Where the numbers come from",
        "\n".join(f"- {name}: {escaped(text)}" for name, text in card.items()),
    ]
    return "\n\n".join(parts) + "\n"
