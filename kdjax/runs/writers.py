"""Writers of a run's metrics: a JSON-lines file, TensorBoard, the terminal."""

import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import tqdm
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.runs import console, json_files, multihost

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"

#: What the progress bar shows, the most important first: the last ones are left out
#: where the terminal is too narrow.
_ORDER = ("test", "validation", "loss", "train", "lr", "rate")

#: Columns that the bar itself takes at least.
_SHORTEST_BAR = 8

#: Least seconds between two drawings of the bar.
_REDRAW_S = 0.1


class MetricsFile:
    """`metrics.jsonl`: one JSON object per line, in the order of the steps.

    After a resume the file is identical to that of an uninterrupted run.
    """

    def __init__(self, workdir: pathlib.Path, *, resume_step: int | None):
        """Opens the file for appending.

        Args:
          workdir: the work directory.
          resume_step: removes lines of later steps, which will be written again, and
            a truncated last line; None removes all lines.
        """
        self._path = path = workdir / METRICS
        kept = [] if resume_step is None else read(path)
        kept = [record for record in kept if record["step"] <= resume_step]
        # Replaced atomically, so that a kill in between loses no line.
        temporary = path.with_suffix(".tmp")
        with console.naming(path):
            workdir.mkdir(parents=True, exist_ok=True)
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
            os.replace(temporary, path)
        self._file = path.open("a")

    def write(self, record: dict[str, Any]) -> None:
        """Appends a record and flushes it, so that a kill does not lose it."""
        with console.naming(self._path):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        with console.naming(self._path):
            self._file.close()


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the records of a metrics file, without a truncated last line.

    Other damaged lines are left out, too, and one line on stderr counts them.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    records, damaged = [], []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            records.append(json_files.parse(line, json_files.METRICS))
        except ValueError as error:
            damaged.append(f"line {number}: {error}")
    if damaged:
        console.warn(f"{path}: left out {len(damaged)} damaged lines; {damaged[0]}")
    return records


class TensorBoard:
    """TensorBoard event files with one curve per metric."""

    def __init__(self, workdir: pathlib.Path, *, resume_step: int | None):
        """Opens a new event file that hides events of earlier files after a step.

        Args:
          workdir: the work directory.
          resume_step: the last step to keep; None hides all events.
        """
        self._folder = workdir / TENSORBOARD
        purge_step = 0 if resume_step is None else resume_step + 1
        with console.naming(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Without tensorboardX's thread, which would hide a failed write.
            self._writer = EventsWriter(str(self._folder / "events"))
            self._write_event(purge_step, file_version="brain.Event:2")
            start = SessionLog(status=SessionLog.START)
            self._write_event(purge_step, session_log=start)

    def write(self, record: dict[str, Any]) -> None:
        """Writes the numbers of a record under `<split>/<name>`."""
        with console.naming(self._folder):
            for name, value in record.items():
                if name not in ("step", "epoch", "split"):
                    curve = summary.scalar(f"{record['split']}/{name}", value)
                    self._write_event(record["step"], summary=curve)
            self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with console.naming(self._folder):
            self._writer.close()

    def _write_event(self, step: int, **content) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))


class ProgressBar:
    """A bar on the terminal, and one line for each evaluation that stays there.

    Where stderr is not a terminal there is no bar, and in other processes than the main
    one nothing is printed.
    """

    def __init__(
        self,
        description: str,
        *,
        plan: BatchPlan,
        total_steps: int,
        draws: bool = True,
    ):
        """Prepares the bar; nothing is drawn before `start`, or if not `draws`."""
        self._description = description
        self._silent = not multihost.is_main_process()
        self._draws = draws and not self._silent
        self._plan, self._total_steps = plan, total_steps
        self._bar: tqdm.tqdm | None = None
        self._step, self._left_s = 0, None
        self._drawn = -math.inf
        self._shown: dict[str, str] = {}

    def start(self, step: int) -> None:
        """Draws the bar at a number of steps made."""
        self._step = step
        if not self._draws or not sys.stderr.isatty():
            return
        self._bar = tqdm.tqdm(
            total=self._total_steps,
            initial=step,
            bar_format="{bar}",
            dynamic_ncols=True,
            leave=False,
        )
        self._draw()

    def advance(self, step: int, rate: float | None, left_s: float | None) -> None:
        """Moves the bar to a step.

        Args:
          step: number of steps made.
          rate: images per second; None if not known yet.
          left_s: seconds to the end of training; None if not known yet.
        """
        self._step, self._left_s = step, left_s
        if rate is not None:
            self._shown["rate"] = f"{rate:,.0f} images/s"
        if time.monotonic() - self._drawn > _REDRAW_S:
            self._draw()

    def show(self, split: str, values: Mapping[str, float]) -> None:
        """Takes the newest loss and learning rate of training, or an accuracy."""
        if split == "train":
            self._shown["loss"] = f"loss {values['loss']:.3f}"
            if "learning_rate" in values:
                self._shown["lr"] = f"lr {values['learning_rate']:.3g}"
        if "accuracy" in values and not split.startswith("teacher_"):
            self._shown[split] = f"{split} {values['accuracy']:.1%}"

    def write(self, record: dict[str, Any]) -> None:
        """Shows a record; prints a line if it is an evaluation."""
        split = record["split"]
        self.show(split, record)
        if split == "train":
            return
        if split.startswith("teacher_"):
            name = split.removeprefix("teacher_")
            self.say(f"teacher: {name} {record['accuracy']:.1%}")
            return
        epochs = f"{record['epoch']:g}/{self._epochs:g}"
        # An earlier accuracy on another split would pass for one of this epoch.
        others = {"test", "validation", "rate"} - {split}
        self.say(f"epoch {epochs}: {', '.join(self._values(*others))}")

    def note(self, text: str) -> None:
        """Shows in place of the time left what goes on while no step is made."""
        if self._bar is not None:
            self._draw(text)

    def say(self, text: str) -> None:
        """Prints a line, above the bar if one is drawn."""
        if self._silent:
            return
        line = f"{self._description}: {text}"
        if self._bar is None:
            console.say(line)
        else:
            self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()

    @property
    def _epochs(self) -> float:
        return self._total_steps / self._plan.steps_per_epoch

    def _values(self, *without: str) -> list[str]:
        return [
            self._shown[name]
            for name in _ORDER
            if name in self._shown and name not in without
        ]

    def _draw(self, note: str | None = None) -> None:
        if self._bar is None:
            return
        self._drawn = time.monotonic()
        epoch = self._step / self._plan.steps_per_epoch
        left = f"{self._description}: epoch {epoch:.1f}/{self._epochs:g} "
        if note is None and self._left_s is not None:
            note = f"{tqdm.tqdm.format_interval(self._left_s)} left"
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        room = columns - len(left) - _SHORTEST_BAR
        right = _fitting([note] * bool(note) + self._values(), room)
        self._bar.bar_format = _literal(left) + "{bar}" + _literal(right)
        self._bar.n = self._step
        self._bar.refresh()


def _fitting(parts: list[str], columns: int) -> str:
    """Joins the first parts that fit into some columns."""
    text = ""
    for part in parts:
        longer = f"{text}, {part}" if text else f" {part}"
        if len(longer) > columns:
            break
        text = longer
    return text


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
