"""Where figures go while a run trains: a JSON-lines file, TensorBoard, the terminal."""

import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import tensorboardX
import tqdm

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"


class MetricsFile:
    """`metrics.jsonl`: one object a line, in the order of the steps.

    A resumed run ends with the very lines of an unbroken one.
    """

    def __init__(self, workdir: pathlib.Path, *, resume_step: int | None):
        """Opens the file for appending.

        Args:
          workdir: the work directory.
          resume_step: later lines, which will be written again, are removed, and so
            is a line that a kill cut short; None removes every line.
        """
        path = workdir / METRICS
        kept = [] if resume_step is None else read(path)
        kept = [record for record in kept if record["step"] <= resume_step]
        # Replaced whole, so that a kill in between loses no line.
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
        os.replace(temporary, path)
        self._file = path.open("a")

    def write(self, record: dict[str, Any]) -> None:
        """Appends a record and hands it to the system, so that a kill keeps it."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the records of a metrics file, without a last line that was cut short."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


class TensorBoard:
    """TensorBoard event files with one curve a metric."""

    def __init__(self, workdir: pathlib.Path, *, resume_step: int | None):
        """Opens a new event file that hides earlier events after `resume_step`.

        Args:
          workdir: the work directory.
          resume_step: None hides all earlier events.
        """
        self._writer = tensorboardX.SummaryWriter(
            str(workdir / TENSORBOARD),
            purge_step=0 if resume_step is None else resume_step + 1,
        )

    def write(self, record: dict[str, Any]) -> None:
        """Writes the numbers of a record under `<split>/<name>`."""
        for name, value in record.items():
            if name not in ("step", "epoch", "split"):
                self._writer.add_scalar(
                    f"{record['split']}/{name}", value, record["step"]
                )

    def close(self) -> None:
        """Writes what is buffered and closes the file."""
        self._writer.close()


class ProgressBar:
    """A bar with loss, accuracy, images/s and the time to go.

    Where standard error is no terminal, evaluations are printed as plain lines and no
    bar is drawn.
    """

    def __init__(self, description: str, *, total_images: int, done_images: int):
        """Draws the bar; the counts are of training images."""
        self._description = description
        self._bar = tqdm.tqdm(
            desc=description,
            total=total_images,
            initial=done_images,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )
        self._shown = {}

    def advance(self, images: int) -> None:
        """Counts images that were trained on."""
        self._bar.update(images)

    def show(self, split: str, values: Mapping[str, float]) -> None:
        """Shows the latest loss of the training and accuracies, where there are any."""
        if split == "train":
            self._shown["loss"] = f"{values['loss']:.3f}"
        if "accuracy" in values:
            self._shown[split] = f"{values['accuracy']:.1%}"
        self._bar.set_postfix(self._shown, refresh=False)

    def write(self, record: dict[str, Any]) -> None:
        """Shows a record; prints evaluations where no bar is drawn."""
        self.show(record["split"], record)
        if self._bar.disable and record["split"] != "train":
            shown = ", ".join(f"{name} {value}" for name, value in self._shown.items())
            line = f"{self._description}: epoch {record['epoch']:g}: {shown}"
            print(line, file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()
