"""Packs run folders into one records file, for tables that are kept.

    python -m experiments.pack --runs=runs/digits --out=experiments/results/digits

writes `records.jsonl` into `--out`: the config, the metrics and the result of every run
under `--runs`. `experiments.report --runs=experiments/results/digits` makes of it the
table that it makes of the folders. Fields that are younger than a run get their
defaults, and paths are stored relative to `--runs`. Equal runs give equal bytes.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdjax.cli import command_line, home
from kdjax.cli.command_line import escaped
from kdjax.runs import console

from . import records, runs


def packed(record: records.Record, root: Path) -> records.Record:
    """Returns a record as it is stored: all fields, no paths of this machine."""
    config = _nest(runs.with_defaults(record.config))
    config["data"]["data_dir"] = ""
    checkpoint = config["teacher"]["checkpoint"]
    if checkpoint and Path(checkpoint).resolve().is_relative_to(root.resolve()):
        folder = Path(checkpoint).resolve().relative_to(root.resolve())
        config["teacher"]["checkpoint"] = folder.as_posix()
    result = record.result
    if result is not None:
        # It holds a copy of the config.
        result = {name: value for name, value in result.items() if name != "config"}
    return dataclasses.replace(record, config=config, result=result)


def main(arguments: Sequence[str] | None = None) -> int:
    """Packs the runs; returns the exit status, 2 if there are none."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.pack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--runs", type=home.argument, required=True, help="folder of the runs"
    )
    parser.add_argument(
        "--out", type=home.argument, required=True, help="folder to write to"
    )
    flags = parser.parse_args(arguments)
    try:
        found, warnings = records.read(flags.runs)
        stored = []
        for record in found:
            try:
                stored.append(packed(record, flags.runs))
            except (KeyError, TypeError, AttributeError) as error:
                warnings.append(records.not_a_run(record.origin, error))
        if not stored:
            raise ValueError(f"no run under --runs={flags.runs}")
        flags.out.mkdir(parents=True, exist_ok=True)
        records.write(stored, flags.out / records.FILE)
    except (ValueError, OSError) as error:
        console.print_error(parser.prog, error)
        return 2
    for warning in warnings:
        console.print_error("warning", warning)
    file = escaped(str(flags.out / records.FILE))
    print(f"wrote {len(stored)} runs to {file}")
    return 0


def _nest(fields: dict[str, Any]) -> dict[str, Any]:
    """Turns names with dots into nested dictionaries."""
    tree: dict[str, Any] = {}
    for name, value in sorted(fields.items()):
        *groups, leaf = name.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[leaf] = value
    return tree


if __name__ == "__main__":
    command_line.run(main)
