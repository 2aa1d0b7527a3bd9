"""Compiles the training step of every method for an accelerator: what each asks of it.

    python -m experiments.compiled --out=runs/h100.jsonl --devices=4
    python -m experiments.compiled --out=runs/v5e.jsonl --target=v5e:2x2 \\
        --methods=overhaul,mhgd

runs `kdjax.compile` for one method after the other and prints a table. A method whose
lines are in the file is not compiled again. The last column but one is the number of
kernels over that of `kd`, the method that adds least to the student and the teacher.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import tabulate

from kdjax import distill
from kdjax.cli import command_line, home
from kdjax.runs import console, json_files

#: Row by which the others are divided.
_LEAST = "kd"


def compile_method(method: str, flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns what `kdjax.compile --json` prints for a method, a phase each.

    Raises:
      ValueError: with its message, if it does not compile.
    """
    command = [sys.executable, "-m", "kdjax.compile", "--json", "--nolargest_batch"]
    command += [f"--target={flags.target}"]
    if flags.devices is not None:
        command += [f"--devices={flags.devices}"]
    command += [
        f"--config=configs/distill.py:{method},{flags.pair},{flags.data}",
        f"--config.batch_size={flags.batch}",
        f"--config.dtype={flags.dtype}",
    ]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        raise ValueError(" ".join(child.stderr.split()))
    lines = map(json.loads, child.stdout.splitlines())
    return [{"method": method, "pair": flags.pair, **line} for line in lines]


def table(records: Sequence[dict[str, Any]]) -> str:
    """Returns the records of the phase `train`, or the only one, as Markdown."""
    last = {record["method"]: record for record in records}
    least = last.get(_LEAST)
    rows = [
        (
            f"`{method}`",
            record["kernels"],
            record["data_dependent_loops"],
            record["collectives"],
            f"{record['collective_bytes'] / 2**20:.2f}",
            f"{record['memory_bytes']['temporaries'] / 2**20:.0f}",
            f"{record['traffic_bytes'] / 2**30:.2f}",
            f"{record['flops'] / 1e9:.1f}",
            f"{record['kernels'] / least['kernels']:.2f}" if least else "",
            f"{record['compile_s']:.0f}",
        )
        for method, record in sorted(last.items())
    ]
    headers = (
        "method",
        "kernels",
        "loops on data",
        "collectives",
        "their MiB",
        "temporaries, MiB",
        "traffic, GiB",
        "GFLOP",
        f"kernels / `{_LEAST}`",
        "compiled in, s",
    )
    return tabulate.tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _records(flags: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields the records of the file, and adds those that it lacks."""
    known = []
    if flags.out.exists():
        lines = flags.out.read_bytes().splitlines()
        known = [json_files.parse(line, {"method": str}) for line in lines]
    yield from known
    done = {record["method"] for record in known}
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    for method in flags.methods:
        if method in done:
            continue
        try:
            found = compile_method(method, flags)
        except ValueError as error:
            console.print_error(method, error)
            continue
        with flags.out.open("a") as file:
            file.writelines(f"{json.dumps(record)}\n" for record in found)
        yield from found


def _methods(text: str) -> list[str]:
    if text == "all":
        return sorted(distill.METHODS)
    return [distill.canonical(name) for name in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=home.argument, required=True, help="file of records, one a line")
    add("--methods", type=_methods, default=_methods("all"), help="default: all")
    add("--target", default="h100", help="as for kdjax.compile")
    add("--devices", type=int, help="as for kdjax.compile")
    add("--pair", default="wrn_28_4-wrn_16_2", help="TEACHER-STUDENT")
    add("--data", default="cifar100", help="data set")
    add("--batch", type=int, default=128, help="images over all devices")
    add("--dtype", default="float32", help="float32 or bfloat16")
    flags = parser.parse_args(arguments)
    print(table(list(_records(flags))))


if __name__ == "__main__":
    command_line.run(main)
