"""How long the runs of a comparison will still take."""

import contextlib
import math
import pathlib
import statistics
from collections.abc import Iterable
from typing import Protocol

from kdjax.runs import json_files


class TimedCell(Protocol):
    """Runs of one process, whose time is known once they are done."""

    config: str

    @property
    def folders(self) -> tuple[pathlib.Path, ...]:
        """Returns the work directories of the runs, which have one wall time."""

    @property
    def done(self) -> bool:
        """Tells whether they are finished."""


class Times:
    """Seconds that finished runs took, by their configuration."""

    def __init__(self) -> None:
        """Knows no run yet."""
        self._seconds: dict[str, list[float]] = {}

    @classmethod
    def of_finished(cls, cells: Iterable[TimedCell]) -> "Times":
        """Reads the times of those runs that are finished already."""
        times = cls()
        for cell in cells:
            if cell.done:
                file = cell.folders[0] / "result.json"
                # The report warns of a damaged one.
                with contextlib.suppress(ValueError):
                    result = json_files.read(file, json_files.RESULT)
                    if "wall_s" in result:
                        times.add(cell, float(result["wall_s"]))
        return times

    def add(self, cell: TimedCell, seconds: float) -> None:
        """Notes how long a run took."""
        self._seconds.setdefault(cell.config, []).append(seconds)

    def left(self, cells: Iterable[TimedCell]) -> str:
        """Estimates the time of runs to come, in words.

        A run of a configuration that has not been finished yet is taken to last as long
        as the mean of those that have.
        """
        if not self._seconds:
            return ""
        means = {k: statistics.fmean(v) for k, v in self._seconds.items()}
        other = statistics.fmean(means.values())
        total = sum(means.get(cell.config, other) for cell in cells)
        minutes = math.ceil(total / 60)
        if minutes < 120:
            return f", about {minutes} min to go"
        return f", about {total / 3600:.1f} h to go"
