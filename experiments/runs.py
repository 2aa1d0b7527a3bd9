"""Run folders as they lie on disk.

A run folder holds `config.json`, `metrics.jsonl` (one JSON object a line, the last
one cut short if the run was killed) and, once it has finished, `result.json`.
"""

import dataclasses
import functools
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from kdjax.runs import workdirs

# Large folders of a run in which no other run can lie.
_NOT_RUNS = {"checkpoints", "tensorboard"}

# Fields of a config that change nothing in the result, or only repeat it: names, and
# with a dot at the end whole groups.
_NOT_RECIPE = (
    "seed",
    "data.data_dir",
    "data.pipeline",
    "data.workers",
    "log_every_steps",
    "checkpoint.",
)

#: Parts of a config that speak to methods alone.
OF_METHODS = ("methods", "teacher", "pretrain", "distill_first")


class Settings(NamedTuple):
    """What two runs must share for their accuracies to be compared."""

    data: str
    train_fraction: float
    epochs: float
    batch_size: int
    validation_fraction: float

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Settings":
        """Reads them from the config of a run, which may be older than some."""
        data = config["data"]
        fraction = data.get("train_fraction")
        return cls(
            data=str(data["name"]),
            train_fraction=1.0 if fraction is None else float(fraction),
            epochs=float(config["epochs"]),
            batch_size=int(config["batch_size"]),
            validation_fraction=float(data.get("validation_fraction") or 0),
        )

    @property
    def watched(self) -> str:
        """The split that is evaluated on while training."""
        return "validation" if self.validation_fraction else "test"

    def __str__(self) -> str:
        """Says the settings in one line, for titles."""
        data = self.data
        if self.train_fraction != 1:
            data = f"{100 * self.train_fraction:.3g} % of {data}"
        if self.validation_fraction:
            data = f"{data} less {100 * self.validation_fraction:.3g} % for validation"
        return f"{data}, {self.epochs:g} epochs, batch {self.batch_size}"


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run says of itself.

    Accuracies are percent of the test split, but the best of a run with a validation
    part is of that.
    """

    last_accuracy: float
    best_accuracy: float
    teacher_accuracy: float | None
    wall_s: float
    images_per_s: float | None
    parameters: int
    extra_parameters: int
    train_images: int
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
        return cls(
            last_accuracy=_percent(fields["final_test_accuracy"]),
            best_accuracy=_percent(best),
            teacher_accuracy=None if teacher is None else _percent(teacher),
            wall_s=float(fields["wall_s"]),
            images_per_s=None if speed is None else float(speed),
            parameters=int(fields["parameters"]["student"]),
            extra_parameters=sum(
                count
                for kind in ("method", "pretrained")
                for count in (fields["parameters"].get(kind) or {}).values()
            ),
            train_images=int(fields["images"]["train"]),
            devices=f"{fields['num_devices']} x {fields['device_kind']}",
            versions=dict(fields["versions"]),
            git_revision=str(fields["git_revision"] or "unknown"),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One run folder.

    Attributes:
        path: The folder, resolved.
        name: The folder relative to the one searched, with forward slashes.
        config: The whole config.
        settings: Those of the config.
        curve: Accuracy in percent on the watched split by epoch, in the order of
            epochs.
        step: The last step that was logged; 0 before the first.
        result: None while the run is unfinished.
    """

    path: Path
    name: str
    config: dict[str, Any]
    settings: Settings
    curve: dict[float, float]
    step: int
    result: Result | None

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

    @functools.cached_property
    def recipe(self) -> dict[str, Any]:
        """Flattens the config to dotted names, less what only tells repeats apart.

        Runs of equal recipes are repeats of one experiment. A field that is younger
        than a run has its default. Left out are the seed, where files lie, what is
        logged and, without methods, what only they listen to.
        """
        unheard = ("teacher.checkpoint",)
        if not self.methods:
            unheard = tuple(f"{part}." for part in OF_METHODS)
        left_out = {*_NOT_RECIPE, *unheard}
        return {
            name: value
            for name, value in workdirs.with_defaults(self.config).items()
            if name not in left_out and f"{name.split('.')[0]}." not in left_out
        }


def read_runs(root: Path) -> tuple[list[Run], list[str]]:
    """Reads every run folder under `root`, itself included.

    Returns:
        The runs in the order of their names, and one warning for each file that
        could not be used. A run whose `result.json` is corrupt counts as unfinished;
        one whose `config.json` is unusable is left out.

    Raises:
        ValueError: `root` is not a folder.
    """
    if not root.is_dir():
        raise ValueError(f"--runs={root} is not a folder")
    runs, warnings = [], []
    for folder, subfolders, files in os.walk(root):
        if "config.json" in files:
            subfolders[:] = set(subfolders) - _NOT_RUNS
            try:
                runs.append(_read_run(Path(folder), root, warnings))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                file = Path(folder, "config.json")
                warnings.append(f"{file} is not the config of a run: {error!r}")
    return sorted(runs, key=lambda run: run.name), warnings


def _read_run(folder: Path, root: Path, warnings: list[str]) -> Run:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings = Settings.of(config)
    curve, step = _read_metrics(folder / "metrics.jsonl", settings.watched)
    run = Run(
        path=folder.resolve(),
        name=folder.relative_to(root).as_posix(),
        config=config,
        settings=settings,
        curve=curve,
        step=step,
        result=_read_result(folder / "result.json", warnings),
    )
    # Touched here, so that a config that lacks one of them is found while reading.
    _ = (run.seed, run.network, run.teacher, run.checkpoint, run.recipe)
    return run


def _read_result(file: Path, warnings: list[str]) -> Result | None:
    if not file.exists():
        return None
    try:
        return Result.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        warnings.append(f"{file} is corrupt, run treated as unfinished: {error!r}")
        return None


def _read_metrics(file: Path, split: str) -> tuple[dict[float, float], int]:
    """Returns the accuracy on a split in percent by epoch, and the last step."""
    curve: dict[float, float] = {}
    step = 0
    lines = file.read_bytes().splitlines() if file.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
            step = max(step, record["step"])
            if record["split"] == split:
                # A resumed run logs some epochs again: the later line counts.
                curve[float(record["epoch"])] = _percent(record["accuracy"])
        except (KeyError, TypeError, ValueError):
            # Cut short by a kill: the last line, or a middle one after a resume.
            continue
    return dict(sorted(curve.items())), step


def _percent(fraction: float) -> float:
    if not (math.isfinite(fraction) and 0 <= fraction <= 1):
        raise ValueError(f"accuracy {fraction} is not a fraction of 1")
    return 100 * float(fraction)
