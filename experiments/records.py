"""Records of runs, read from run folders or from one file that holds many of them.

A run folder holds `config.json`, `metrics.jsonl` and, once the run has finished,
`result.json`; a phase before the training has a folder of its own with its metrics,
and `note.txt` may say what a reader of the table must know. A
records file, `records.jsonl`, holds the same as one JSON object a line and run:

    {"name": "digits/students/wrn_10_1/seed_0", "config": {...}, "result": {...},
     "metrics": {"train": {"test": {"epoch": [1.0, 2.0], "accuracy": [...]}}}}

with metrics in columns, by phase and split. `experiments.pack` writes such files.
"""

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdjax.runs import json_files

FILE = "records.jsonl"

#: The phase whose metrics lie in the run folder itself.
TRAIN = "train"

#: Metric values by column, by split, by phase.
Metrics = dict[str, dict[str, dict[str, list[Any]]]]

# Of a line of a records file.
_RECORD: json_files.Schema = {
    "name": str,
    "config": json_files.CONFIG,
    "result": dict | None,
    "note?": str,
    "metrics": {"*": {"*": {"*": list}}},
}

# Large folders of a run in which no other run can lie.
_NOT_RUNS = {"checkpoints", "tensorboard"}


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """What is stored of one run.

    Attributes:
        name: The run folder relative to the folder searched, with forward slashes.
        path: The run folder, resolved; for a line of a records file, a folder of that
            name where the file lies.
        origin: The folder, or the records file and line, for messages.
        config: The object in `config.json`.
        result: The object in `result.json`; None while the run is unfinished.
        metrics: Metrics of every phase, in the order in which they were logged.
        note: What a reader of the table must know of the run; mostly empty.
    """

    name: str
    path: Path
    origin: str
    config: dict[str, Any]
    result: dict[str, Any] | None
    metrics: Metrics
    note: str = ""


def read(root: Path) -> tuple[list[Record], list[str]]:
    """Reads a records file, or every run folder and records file under a folder.

    Args:
        root: The file, or the folder; a run folder itself will do.

    Returns:
        The records in the order of their names, and one warning for each file or line
        that could not be used. A run with an unreadable `result.json` counts as
        unfinished; one with an unreadable `config.json` is left out.

    Raises:
        ValueError: `root` is neither a folder nor a records file.
    """
    records: list[Record] = []
    warnings: list[str] = []
    if root.is_file() and root.suffix == ".jsonl":
        records = _read_file(root, root.parent, warnings)
    elif not root.is_dir():
        raise ValueError(f"--runs={root} is neither a folder nor a records file")
    for folder, subfolders, files in os.walk(root):
        if FILE in files:
            records += _read_file(Path(folder, FILE), root, warnings)
        if "config.json" in files:
            subfolders[:] = set(subfolders) - _NOT_RUNS
            try:
                records.append(_read_folder(Path(folder), root, warnings))
            except (ValueError, OSError) as error:
                warnings.append(not_a_run(Path(folder, "config.json"), error))
    return sorted(records, key=lambda record: record.name), warnings


def files(root: Path) -> list[Path]:
    """Returns the records files at or below a path, in order."""
    if root.is_file():
        return [root]
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = set(subfolders) - _NOT_RUNS
        found += [Path(folder, FILE)] * (FILE in names)
    return sorted(found)


def write(records: Iterable[Record], file: Path) -> None:
    """Writes a records file; equal records give equal bytes."""
    lines = []
    for record in sorted(records, key=lambda record: record.name):
        fields = {
            "name": record.name,
            "config": record.config,
            "result": record.result,
            **({"note": record.note} if record.note else {}),
            "metrics": record.metrics,
        }
        lines.append(json.dumps(fields, separators=(",", ":")) + "\n")
    file.write_text("".join(lines), encoding="utf-8")


def not_a_run(origin: object, error: Exception) -> str:
    """Returns the warning for something that is left out."""
    return f"{origin} is not the config of a run: {_reason(error)}"


def _read_file(file: Path, root: Path, warnings: list[str]) -> list[Record]:
    records = []
    prefix = file.parent.relative_to(root)
    lines = file.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        origin = f"{file}:{number}"
        try:
            fields = json_files.parse(line, _RECORD)
            name = (prefix / fields["name"]).as_posix()
            record = Record(
                name=name,
                path=root.resolve() / name,
                origin=f"{origin} ({name})",
                config=fields["config"],
                result=fields["result"],
                metrics=fields["metrics"],
                note=fields.get("note", ""),
            )
        except ValueError as error:
            warnings.append(f"{origin} is not the record of a run: {error}")
        else:
            records.append(record)
    return records


def _read_folder(folder: Path, root: Path, warnings: list[str]) -> Record:
    config = json_files.parse((folder / "config.json").read_bytes(), json_files.CONFIG)
    result = None
    file = folder / "result.json"
    if file.exists():
        try:
            result = json_files.parse(file.read_bytes(), json_files.RESULT)
        except ValueError as error:
            warnings.append(f"{folder}: {unfinished(error)}")
    phases = {TRAIN: folder}
    for part in sorted(folder.iterdir()):
        if (part / "metrics.jsonl").exists() and not (part / "config.json").exists():
            phases[part.name] = part
    metrics = {
        phase: _read_metrics(part / "metrics.jsonl", result is not None, warnings)
        for phase, part in phases.items()
        if (part / "metrics.jsonl").exists()
    }
    note = folder / "note.txt"
    return Record(
        name=folder.relative_to(root).as_posix(),
        path=folder.resolve(),
        origin=str(folder),
        config=config,
        result=result,
        metrics=metrics,
        note=note.read_text(encoding="utf-8").strip() if note.exists() else "",
    )


def unfinished(error: Exception) -> str:
    """Returns the end of the warning for a result that cannot be used."""
    return f"result.json is corrupt, run treated as unfinished: {_reason(error)}"


def _reason(error: Exception) -> str:
    # The text of others, as of a KeyError, is no sentence.
    return str(error) if isinstance(error, ValueError | OSError) else repr(error)


def _read_metrics(
    file: Path, finished: bool, warnings: list[str]
) -> dict[str, dict[str, list[Any]]]:
    """Returns the lines of a metrics file as columns by split.

    The last line of a running or killed run may be cut short; every other malformed
    line is left out with a warning.
    """
    lines = file.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n") and not finished:
        lines.pop()
    by_split: dict[str, list[dict[str, Any]]] = {}
    malformed = []
    for number, line in enumerate(lines, start=1):
        try:
            values = json_files.parse(line, json_files.METRICS)
        except ValueError:
            malformed.append(number)
        else:
            by_split.setdefault(values.pop("split"), []).append(values)
    if malformed:
        numbers = ", ".join(map(str, malformed))
        warnings.append(f"{file}: malformed lines are left out: {numbers}")
    return {
        split: {
            column: [values.get(column) for values in rows]
            for column in dict.fromkeys(name for values in rows for name in values)
        }
        for split, rows in by_split.items()
    }
