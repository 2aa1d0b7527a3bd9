"""Published figures, read from `published.csv`.

Accuracies are percent of the test split. Each row carries the settings that it was
obtained with, as fields of a configuration, and what else decides whether a run
may be compared with it.
"""

import csv
import dataclasses
import functools
import json
import pathlib
from typing import Any

_FILE = pathlib.Path(__file__).with_name("published.csv")


@dataclasses.dataclass(frozen=True)
class Figure:
    """One published figure.

    Attributes:
      method: name of the method, as in `kdjax.distill.METHODS`.
      variant: what differs from the method's own configuration; empty for nothing.
      teacher: name of the teacher network.
      student: name of the student network.
      data: name of the data set.
      teacher_accuracy: of the teacher that was used.
      baseline_accuracy: of the student trained alone.
      accuracy: of the distilled student.
      hyperparameters: fields of a configuration, by their dotted names, and the values
        that the figure was obtained with.
      recipe: name in `kdjax.recipes.RECIPES`.
      epoch: "last", or "best" on the test split; None if not stated.
      runs: that the figure is a mean or median of; None if not stated.
      views: augmented images that one step draws from each image.
      epochs: of the student's training, without phases before it.
      extra_inference_parameters: that the student keeps beside its own.
      tuned_per_pair: whether hyperparameters were chosen for each pair.
      source: document that prints the figure.
    """

    method: str
    variant: str
    teacher: str
    student: str
    data: str
    teacher_accuracy: float
    baseline_accuracy: float
    accuracy: float
    hyperparameters: dict[str, Any]
    recipe: str
    epoch: str | None
    runs: int | None
    views: int
    epochs: int
    extra_inference_parameters: int
    tuned_per_pair: bool
    source: str

    @property
    def pair(self) -> str:
        """The networks as a configuration takes them, "teacher-student"."""
        return f"{self.teacher}-{self.student}"


def _figure(row: dict[str, str]) -> Figure:
    accuracies = ("teacher_accuracy", "baseline_accuracy", "accuracy")
    counts = ("views", "epochs", "extra_inference_parameters")
    return Figure(
        **{
            **row,
            **{name: float(row[name]) for name in accuracies},
            **{name: int(row[name]) for name in counts},
            "hyperparameters": json.loads(row["hyperparameters"]),
            "epoch": row["epoch"] or None,
            "runs": int(row["runs"]) if row["runs"] else None,
            "tuned_per_pair": {"yes": True, "no": False}[row["tuned_per_pair"]],
        }
    )


@functools.cache
def read(path: pathlib.Path = _FILE) -> tuple[Figure, ...]:
    """Returns all figures, in the order of the file."""
    with path.open(newline="") as file:
        return tuple(map(_figure, csv.DictReader(file)))


def find(method: str, pair: str, data: str = "cifar100") -> Figure | None:
    """Returns the figure of a method's own configuration; None if there is none.

    Args:
      method: name of the method.
      pair: "teacher-student".
      data: name of the data set.
    """
    for figure in read():
        own = (figure.method, figure.variant, figure.pair, figure.data)
        if own == (method, "", pair, data):
            return figure
    return None
