"""Runs as a report sees them: settings, learning curves and results.

Nothing here imports jax, unless some runs of a method lack hyperparameters that others
have: their defaults lie with the methods.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdjax.config.fields import FIELDS, OF_METHODS

from . import records

# Defaults as they stand in JSON.
_DEFAULTS = {
    name: list(field.default) if isinstance(field.default, tuple) else field.default
    for name, field in FIELDS.items()
}

# Fields of a config that change nothing in the result, or only repeat it.
_NOT_RECIPE = {name for name, field in FIELDS.items() if not field.in_recipe}


class Settings(NamedTuple):
    """What two runs must share for their accuracies to be compared."""

    data: str
    train_fraction: float
    epochs: float
    batch_size: int
    validation_fraction: float

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Settings":
        """Reads the settings from the config of a run."""
        data = config["data"]
        return cls(
            data=str(data["name"]),
            train_fraction=float(data.get("train_fraction", 1.0)),
            epochs=float(config["epochs"]),
            batch_size=int(config["batch_size"]),
            validation_fraction=float(data.get("validation_fraction", 0.0)),
        )

    @property
    def eval_split(self) -> str:
        """The split that is evaluated while training."""
        return "validation" if self.validation_fraction else "test"

    def __str__(self) -> str:
        """Returns the settings in one line, for titles."""
        data = self.data
        if self.train_fraction != 1:
            data = f"{100 * self.train_fraction:.3g} % of {data}"
        if self.validation_fraction:
            data = f"{data} less {100 * self.validation_fraction:.3g} % for validation"
        return f"{data}, {self.epochs:g} epochs, batch {self.batch_size}"


@dataclasses.dataclass(frozen=True)
class Result:
    """The measurements of a finished run.

    Accuracies are percent of the test split; the best accuracy of a run with a
    validation split is that on the validation split. Of runs in one program, `wall_s`
    is a run's share of the time, and `images_per_s` the images of all of them.
    """

    last_accuracy: float
    best_accuracy: float
    teacher_accuracy: float | None
    wall_s: float
    images_per_s: float | None
    parameters: int
    auxiliary_parameters: int
    train_images: int
    phases: tuple[str, ...]
    devices: str
    versions: dict[str, str]
    git_revision: str

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Result":
        """Checks and converts the object in `result.json`.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: A field is missing, has
                the wrong type, or is an accuracy outside 0..1.
        """
        teacher = fields.get("teacher_test_accuracy")
        best = fields["best_test_accuracy"]
        if best is None:
            best = fields["best_validation_accuracy"]
        speed = fields["images_per_s"]
        together = int(fields.get("replicas", 1))
        return cls(
            last_accuracy=_percent(fields["final_test_accuracy"]),
            best_accuracy=_percent(best),
            teacher_accuracy=None if teacher is None else _percent(teacher),
            wall_s=float(fields["wall_s"]) / together,
            images_per_s=None if speed is None else float(speed) * together,
            parameters=int(fields["parameters"]["student"]),
            auxiliary_parameters=sum(
                count
                for kind in ("method", "pretrained")
                for count in (fields["parameters"].get(kind) or {}).values()
            ),
            train_images=int(fields["images"]["train"]),
            phases=tuple(fields.get("phases", ())),
            devices=f"{fields['num_devices']} x {fields['device_kind']}",
            versions=dict(fields["versions"]),
            git_revision=str(fields["git_revision"] or "unknown"),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One run.

    Attributes:
        path: The run folder, resolved.
        name: The folder relative to the one searched, with forward slashes.
        config: The config as it is stored.
        fields: The config flattened to names with dots; fields younger than the run
            have their defaults.
        settings: Those of the config.
        curve: Accuracy in percent on the evaluated split by epoch of the last phase,
            in the order of epochs.
        step: The last step that was logged; 0 before the first.
        result: None while the run is unfinished.
        note: What a reader of the table must know of the run; mostly empty.
        agreement: Fraction of the evaluated images that it and its teacher assigned to
            the same class after the last epoch; None without.
    """

    path: Path
    name: str
    config: dict[str, Any]
    fields: Mapping[str, Any]
    settings: Settings
    curve: dict[float, float]
    step: int
    result: Result | None
    note: str = ""
    agreement: float | None = None

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def network(self) -> str:
        return self.config["model"]

    @property
    def teacher(self) -> str:
        return self.config["teacher"]["model"] or ""

    @property
    def checkpoint(self) -> str:
        return self.config["teacher"].get("checkpoint") or ""

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(sorted(self.config["methods"]))

    @property
    def distill_first_epochs(self) -> float:
        """Epochs of distillation alone that came before those of `settings`."""
        if self.result is None or "distill_first" not in self.result.phases:
            return 0
        return self.config["distill_first"]["epochs"]

    @functools.cached_property
    def recipe(self) -> dict[str, Any]:
        """The fields less those that only tell repeats apart.

        Runs of equal recipes are repeats of one experiment. Left out are the seed,
        where files lie, what is logged and, without methods, what only methods use.
        """
        unused = () if self.methods else OF_METHODS
        return {
            name: value
            for name, value in self.fields.items()
            if name not in _NOT_RECIPE and name.split(".")[0] not in unused
        }


def read_runs(root: Path) -> tuple[list[Run], list[str]]:
    """Reads every run in a records file, or under a folder.

    Returns:
        The runs in the order of their names, and one warning for each file or line
        that could not be used. A run whose result is corrupt counts as unfinished;
        one whose config is unusable is left out.

    Raises:
        ValueError: `root` is neither a folder nor a records file.
    """
    found, warnings = records.read(root)
    runs = []
    for record in found:
        try:
            runs.append(_run(record, warnings))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            warnings.append(records.not_a_run(record.origin, error))
    return _completed(runs), warnings


def with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Flattens a config; fields that are younger than it get their defaults."""
    # This imports jax.
    from kdjax.runs import workdirs

    return workdirs.with_defaults(config)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns nested dictionaries into names with dots."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _completed(runs: Sequence[Run]) -> list[Run]:
    """Fills in defaults if some runs lack hyperparameters that others have."""
    known: dict[str, set[str]] = {}
    for run in runs:
        for method, given in run.config["methods"].items():
            known.setdefault(method, set()).update(given)
    if all(
        given.keys() == known[method]
        for run in runs
        for method, given in run.config["methods"].items()
    ):
        return list(runs)
    return [dataclasses.replace(run, fields=with_defaults(run.config)) for run in runs]


def _run(record: records.Record, warnings: list[str]) -> Run:
    settings = Settings.of(record.config)
    result = None
    if record.result is not None:
        try:
            result = Result.from_json(record.result)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            warnings.append(f"{record.origin}: {records.unfinished(error)}")
    splits = record.metrics.get(records.TRAIN, {})
    evaluated = splits.get(settings.eval_split, {})
    steps = (step for columns in splits.values() for step in columns["step"])
    run = Run(
        path=record.path,
        name=record.name,
        config=record.config,
        fields=_DEFAULTS | flatten(record.config),
        settings=settings,
        curve=_curve(evaluated, record.origin, warnings),
        step=max(steps, default=0),
        result=result,
        note=record.note,
        agreement=(evaluated.get("agreement") or [None])[-1],
    )
    # Touched here, so that a config that lacks one of them is found while reading.
    _ = (run.seed, run.network, run.teacher, run.checkpoint, run.recipe)
    _ = run.distill_first_epochs
    return run


def _curve(
    columns: Mapping[str, list[Any]], origin: str, warnings: list[str]
) -> dict[float, float]:
    """Returns the accuracy in percent by epoch, in the order of epochs."""
    curve: dict[float, float] = {}
    left_out = []
    epochs = columns.get("epoch", [])
    accuracies = columns.get("accuracy", [None] * len(epochs))
    for epoch, accuracy in zip(epochs, accuracies, strict=True):
        try:
            # A resumed run logs some epochs again: the later line counts.
            curve[float(epoch)] = _percent(accuracy)
        except (TypeError, ValueError):
            left_out.append(str(epoch))
    if left_out:
        epochs = ", ".join(left_out)
        warnings.append(f"{origin}: no accuracy between 0 and 1 in epochs {epochs}")
    return dict(sorted(curve.items()))


def _percent(fraction: float) -> float:
    if not (math.isfinite(fraction) and 0 <= fraction <= 1):
        raise ValueError(f"accuracy {fraction} is not a fraction of 1")
    return 100 * float(fraction)
