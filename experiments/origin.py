"""Where the numbers of a table come from: its reproduction card."""

import hashlib
import pathlib
import statistics
from collections.abc import Iterable

from . import records, runs

#: What the runs themselves tell.
OF_RUNS = ("Devices", "Versions", "Git revision", "Seeds")


def card(
    found: Iterable[runs.Run], source: pathlib.Path | None, command: str
) -> dict[str, str]:
    """Returns what it takes to make a table again, by name.

    Args:
      found: the finished runs of the table.
      source: the folder or the file that they were read from.
      command: that makes the table.
    """
    found = list(found)
    results = [run.result for run in found]
    versions = sorted({item for result in results for item in result.versions.items()})
    minutes = [result.wall_s / 60 for result in results]
    return {
        "Devices": ", ".join(sorted({result.devices for result in results})),
        "Versions": ", ".join(" ".join(item) for item in versions),
        "Git revision": ", ".join(sorted({result.git_revision for result in results})),
        "Seeds": ", ".join(map(str, sorted({run.seed for run in found}))),
        "Time": f"{sum(minutes):.1f} min of {len(found)} runs, the median of which "
        f"took {statistics.median(minutes):.1f} min",
        "Records": _records(source),
        "Made by": f"`{command}`",
    }


def _records(source: pathlib.Path | None) -> str:
    """Names the records files below a source, with their checksums."""
    files = [] if source is None else records.files(source)
    if not files:
        return "run folders, which `experiments.pack` makes one file of"
    return ", ".join(
        f"{file.name} SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}"
        for file in files
    )
