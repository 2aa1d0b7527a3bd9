"""Where figures go while a run trains: a JSON-lines file, TensorBoard, the terminal."""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import tqdm
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Adds a path to what the system says of a failed write, as of a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


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
        self._path = path = workdir / METRICS
        kept = [] if resume_step is None else read(path)
        kept = [record for record in kept if record["step"] <= resume_step]
        # Replaced whole, so that a kill in between loses no line.
        temporary = path.with_suffix(".tmp")
        with _naming(path):
            workdir.mkdir(parents=True, exist_ok=True)
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
            os.replace(temporary, path)
        self._file = path.open("a")

    def write(self, record: dict[str, Any]) -> None:
        """Appends a record and hands it to the system, so that a kill keeps it."""
        with _naming(self._path):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        with _naming(self._path):
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
        self._folder = workdir / TENSORBOARD
        purge_step = 0 if resume_step is None else resume_step + 1
        with _naming(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Without tensorboardX's thread, which a failed write would end unnoticed.
            self._writer = EventsWriter(str(self._folder / "events"))
            self._write_event(purge_step, file_version="brain.Event:2")
            start = SessionLog(status=SessionLog.START)
            self._write_event(purge_step, session_log=start)

    def write(self, record: dict[str, Any]) -> None:
        """Writes the numbers of a record under `<split>/<name>`."""
        with _naming(self._folder):
            for name, value in record.items():
                if name not in ("step", "epoch", "split"):
                    curve = summary.scalar(f"{record['split']}/{name}", value)
                    self._write_event(record["step"], summary=curve)
            self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with _naming(self._folder):
            self._writer.close()

    def _write_event(self, step: int, **content) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))


class ProgressBar:
    """A bar with loss, accuracy, images/s and the time to go.

    Where standard error is no terminal, evaluations are printed as plain lines and no
    bar is drawn.
    """

    def __init__(
        self,
        description: str,
        *,
        total_images: int,
        done_images: int,
        silent: bool = False,
    ):
        """Draws the bar, unless it is to be silent; the counts are of images."""
        self._description = description
        self._silent = silent
        self._bar = tqdm.tqdm(
            desc=description,
            total=total_images,
            initial=done_images,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            disable=silent or not sys.stderr.isatty(),
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
            self.say(f"epoch {record['epoch']:g}: {shown}")

    def say(self, text: str) -> None:
        """Prints a line, above the bar if one is drawn."""
        if not self._silent:
            self._bar.write(f"{self._description}: {text}", file=sys.stderr)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()
