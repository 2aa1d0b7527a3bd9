"""Sorts runs into teachers, baselines and methods of each pair.

Only their configs count, not the names of folders; but a teacher's checkpoint is
known by its path.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .runs import Run, Settings

TEACHER = "teacher"
BASELINE = "student from scratch (baseline)"
METHOD = "method"
UNPAIRED = "network from scratch"


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """Repeats of one experiment.

    Attributes:
        role: TEACHER, BASELINE, METHOD or UNPAIRED.
        label: The role, or the names of the methods; where rows would share one, the
            settings in which they differ stand behind it, but for values that most of
            them share.
        runs: One finished run for each seed, in the order of seeds.
    """

    role: str
    label: str
    runs: Mapping[int, Run]

    @property
    def network(self) -> str:
        return self.first.network

    @property
    def first(self) -> Run:
        return next(iter(self.runs.values()))

    @property
    def eval_split(self) -> str:
        """The split that was evaluated while training."""
        return self.first.settings.eval_split

    @property
    def accuracies(self) -> dict[int, float]:
        """Test accuracy in percent after the last epoch, by seed."""
        return {seed: run.result.last_accuracy for seed, run in self.runs.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Rows that are compared with each other.

    Attributes:
        settings: Shared by all rows but the teacher's.
        pair: The names of teacher and student; None for networks of no pair.
        rows: Teacher, baseline, then the methods.
    """

    settings: Settings
    pair: tuple[str, str] | None
    rows: tuple[Row, ...]

    @property
    def heading(self) -> str:
        """Names the pair."""
        if self.pair is None:
            return "networks from scratch"
        return f"{self.pair[0] or 'no teacher'} \N{RIGHTWARDS ARROW} {self.pair[1]}"

    @property
    def title(self) -> str:
        """Names the pair and the settings."""
        return f"{self.heading} ({self.settings})"

    def having(self, role: str) -> list[Row]:
        """Returns the rows of one role."""
        return [row for row in self.rows if row.role == role]


def runs_of(blocks: Iterable[Block]) -> list[Run]:
    """Returns the runs of all rows, each once though it may stand in several blocks."""
    found = (r for b in blocks for row in b.rows for r in row.runs.values())
    return list(dict.fromkeys(found))


def arrange(runs: Iterable[Run]) -> tuple[list[Block], list[str]]:
    """Sorts the finished runs into blocks; unfinished ones are left out.

    Returns:
        One block for each pair and settings, then one for each settings with
        networks that belong to no pair; and one warning for each run left out
        because another with its recipe and seed has a different result.
    """
    finished = [run for run in runs if run.result is not None]
    scratch = [run for run in finished if not run.methods]
    pairs: dict[tuple, list[Run]] = {}
    for run in finished:
        if run.methods:
            pairs.setdefault((run.settings, run.teacher, run.network), []).append(run)

    blocks, warnings, paired = [], {}, set()
    for (settings, teacher, student), distilled in sorted(pairs.items()):
        teachers = _teachers(teacher, distilled, scratch)
        baselines = [
            run
            for run in scratch
            if run.network == student and run.settings == settings
            # Self-distillation: the same network is one or the other, not both.
            if teacher != student or run not in teachers
        ]
        paired.update(teachers, baselines)
        rows = [
            *_rows(TEACHER, teachers, warnings),
            *_rows(BASELINE, baselines, warnings),
            *_rows(METHOD, distilled, warnings),
        ]
        blocks.append(Block(settings, (teacher, student), tuple(rows)))

    unpaired: dict[Settings, list[Run]] = {}
    for run in scratch:
        if run not in paired:
            unpaired.setdefault(run.settings, []).append(run)
    for settings, group in sorted(unpaired.items()):
        blocks.append(Block(settings, None, tuple(_rows(UNPAIRED, group, warnings))))
    return blocks, list(warnings)


def _teachers(teacher: str, distilled: list[Run], scratch: list[Run]) -> list[Run]:
    """Returns the runs without methods that are teachers of `distilled`.

    Those are the repeats of the runs whose checkpoints taught; where no checkpoint is
    found, the runs of the teacher's network on the same data. In self-distillation
    only a run that taught is a teacher: its repeats are the baseline.
    """
    scratch = [run for run in scratch if run.network == teacher]
    taught = [_run_of_checkpoint(run.checkpoint, scratch) for run in distilled]
    taught = [run for run in taught if run is not None]
    if teacher == distilled[0].network:
        return [run for run in scratch if run in taught]
    if taught:
        repeats = (r for r in scratch if any(r.recipe == t.recipe for t in taught))
        # First those that taught: of runs with the same seed the first one counts.
        return [*taught, *repeats]
    # Epochs and batch size of a teacher may be others than the students'.
    data = distilled[0].settings[:2]
    return [run for run in scratch if run.settings[:2] == data]


def _run_of_checkpoint(checkpoint: str, runs: list[Run]) -> Run | None:
    """Finds the run that a checkpoint came from, also where all runs were moved."""
    if not checkpoint:
        return None
    folder = Path(checkpoint).resolve()
    found = [run for run in runs if run.path in (folder, *folder.parents)]
    if not found:
        found = [run for run in runs if f"/{run.name}/" in f"{folder.as_posix()}/"]
    return max(found, key=lambda run: len(run.name), default=None)


def _rows(role: str, runs: list[Run], warnings: dict[str, None]) -> list[Row]:
    """Groups runs into rows by recipe, and gives each row a label of its own."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.recipe, sort_keys=True), []).append(run)
    named: dict[str, list[list[Run]]] = {}
    for group in groups.values():
        name = " + ".join(group[0].methods) if role == METHOD else role
        if role == UNPAIRED:
            name = group[0].network
        named.setdefault(name, []).append(group)

    rows = []
    for name, variants in sorted(
        named.items(), key=lambda item: (item[0].count(" + "), item[0])
    ):
        recipes = [group[0].recipe for group in variants]
        usual = _usual(recipes)
        for recipe, group in zip(recipes, variants, strict=True):
            settings = [
                f"{field.removeprefix('methods.').removeprefix(f'{name}.')}={value}"
                for field, (value, *_) in differences(recipe, *recipes).items()
                if field not in usual or usual[field] != value
            ]
            label = f"{name} ({', '.join(settings)})" if settings else name
            rows.append(Row(role, label, _by_seed(group, warnings)))
    return rows


def _usual(recipes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the values that more than half of the recipes share, by field."""
    found = {}
    for field in dict.fromkeys(field for recipe in recipes for field in recipe):
        values = [json.dumps(recipe.get(field, "unset")) for recipe in recipes]
        most = max(values, key=values.count)
        if 2 * values.count(most) > len(values):
            found[field] = json.loads(most)
    return found


def _by_seed(runs: list[Run], warnings: dict[str, None]) -> dict[int, Run]:
    """Keeps one run for each seed: copies must not count as independent seeds."""
    kept: dict[int, Run] = {}
    for run in runs:
        other = kept.setdefault(run.seed, run)
        if other.result.last_accuracy != run.result.last_accuracy:
            warnings[
                f"{run.name} left out: {other.name} has its config and seed "
                f"{run.seed}, and another accuracy"
            ] = None
    return dict(sorted(kept.items()))


def differences(*recipes: Mapping[str, Any]) -> dict[str, tuple]:
    """Returns the fields in which recipes differ, with the value in each of them."""
    fields = dict.fromkeys(field for recipe in recipes for field in recipe)
    values = {f: tuple(recipe.get(f, "unset") for recipe in recipes) for f in fields}
    return {f: v for f, v in values.items() if any(other != v[0] for other in v)}
