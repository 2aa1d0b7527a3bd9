"""Recomputes the figures that README and docs print from the records of the runs.

    python -m experiments.verify

reads every number in the tables of the sections of `SECTIONS`, and every number of
their text that has two decimals, and fails where the records behind the section do not
give it, rounded as it is printed. `table.md` and `table.csv` of each folder of results
must be those that `experiments.report` makes of its records now, and so must the pages
of `experiments.ablations` and of `experiments.sweep_report`.
"""

import json
import math
import pathlib
import re
from collections.abc import Iterable, Iterator

from kdjax.cli import command_line

from . import ablation_report, ablations, compiled, report, summary, sweep_report

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"

#: What the figures of a section come from: folders and files of results, by page and
#: heading.
SECTIONS = {
    ("README.md", "Results"): ("cifar100_resnet56", "cifar100_ofd_c"),
    ("README.md", "Quickstart"): ("digits_overhaul",),
    ("docs/benchmarks.md", "On a GPU"): (
        *("benchmark_h200.jsonl", "benchmark_h100.jsonl"),
        "cifar100_ofd_c",
    ),
    ("docs/benchmarks.md", "One distillation step on a CPU"): ("benchmark_cpu.jsonl",),
    ("docs/benchmarks.md", "All methods on a CPU"): ("benchmark_cpu.jsonl",),
    ("docs/ablations.md", "On the digits"): ("digits_ablations",),
    ("docs/ablations.md", "On a tenth of CIFAR-100"): ("cifar100_ablations",),
    ("docs/data.md", "Choosing the weight of a method"): ("digits_sweeps",),
    ("docs/training.md", "Released recipes and one of today"): (
        *("cifar100_recipes_released", "cifar100_recipes_today"),
        *("digits_recipes_released", "digits_recipes_today"),
    ),
    ("docs/accelerators.md", "All methods"): (
        "compiled_h100.jsonl",
        "compiled_v5e.jsonl",
    ),
}

#: A number, not within a name such as WRN-16-2.
_NUMBER = re.compile(r"(?<![\w.,-])[-+]?\d[\d,]*(?:\.\d+)?(?![\w-]|\.\d)")
_NO_FIGURES = re.compile(r"`[^`]*`|\([^)]*://[^)]*\)|\[95 %\]")
_TWO_DECIMALS = re.compile(r"\.\d\d$")


def section(text: str, heading: str) -> str:
    """Returns the part of a page below a heading of the second level.

    Raises:
      ValueError: if there is no such heading.
    """
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    if found is None:
        raise ValueError(f"there is no section {heading!r}")
    return found.group(1)


def printed(text: str) -> Iterator[str]:
    """Yields the numbers of tables, and those with two decimals of anything else.

    A table is Markdown, or what a command prints, by four spaces; commands are none.
    The level of an interval is no figure.
    """
    for line in text.splitlines():
        is_table = line.startswith("|") or (
            line.startswith("    ") and re.search(r"\S {2,}\S", line) is not None
        )
        for number in _NUMBER.findall(_NO_FIGURES.sub("", line)):
            if is_table or _TWO_DECIMALS.search(number):
                yield number


def figures(source: pathlib.Path) -> set[float]:
    """Returns the numbers that a folder or a file of results gives."""
    if (source / sweep_report.FILE).exists():
        sweeps = sweep_report.read(source)
        rows = [sweep_report.values(sweep) for sweep in sweeps]
        return set(_numbers([rows, sweeps]))
    if source.is_dir():
        blocks, _ = report.collect(source)
        rows = [summary.record(block, row) for block in blocks for row in block.rows]
        pages = ablations.rewritten(source).values()
        made = [row for page in pages for row in page.rows]
        rows += [ablation_report.values(row) for row in made if row.found]
        runs = [x for block in blocks for row in block.rows for x in row.runs.values()]
        return set(_numbers([rows, [run.result.teacher_accuracy for run in runs]]))
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    found = set(_numbers(lines))
    if source.name.startswith("compiled"):
        # Ratios and units are the table's.
        table = compiled.table(lines)
        found |= {_value(number) for number in printed(table)}
    for line in lines:
        if "distillation_ms" in line:
            found.add(line["distillation_ms"] / line["student_ms"])
            found.add(line.get("peak_bytes", 0) / 1e6)
    return found


def _numbers(tree: object) -> Iterator[float]:
    """Yields the numbers in nested records, those in texts included."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from _numbers(part)
    elif isinstance(tree, str):
        yield from (_value(number) for number in _NUMBER.findall(tree))
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield float(tree)


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def is_given(number: str, known: Iterable[float]) -> bool:
    """Tells whether a printed number is one of the known, rounded as it is printed."""
    _, _, decimals = number.partition(".")
    # Half a unit of the last digit, and what the value of the text may be off by.
    half = 0.5 * 10.0 ** -len(decimals) + 1e-9
    return any(math.isclose(_value(number), x, rel_tol=0, abs_tol=half) for x in known)


def wrong_figures() -> list[str]:
    """Returns a line for every printed number that the records do not give."""
    lines = []
    for (page, heading), sources in SECTIONS.items():
        known = set().union(*(figures(RESULTS / source) for source in sources))
        text = section((ROOT / page).read_text(encoding="utf-8"), heading)
        wrong = [number for number in printed(text) if not is_given(number, known)]
        if wrong:
            lines.append(
                f"{page}, {heading}: {', '.join(wrong)} not in {', '.join(sources)}"
            )
    return lines


def stale_tables() -> list[str]:
    """Returns a line for every table that is not that of its records."""
    lines = []
    for records in sorted(RESULTS.glob("*/records.jsonl")):
        folder = records.parent
        blocks, unfinished = report.collect(folder)
        page = (folder / "table.md").read_text(encoding="utf-8")
        made = report.markdown(blocks, unfinished, "", folder)
        # The command depends on where it was run.
        if _without_command(page) != _without_command(made):
            lines.append(f"{folder.relative_to(ROOT)}/table.md is not of its records")
        for file, made in ablations.rewritten(folder).items():
            if file.read_text(encoding="utf-8") != made.text:
                lines.append(f"{file.relative_to(ROOT)} is not of its records")
    for file in sorted(RESULTS.glob(f"*/{sweep_report.FILE}")):
        made = sweep_report.markdown(sweep_report.read(file.parent), file.read_text())
        page = file.with_suffix(".md")
        if page.read_text(encoding="utf-8") != made:
            lines.append(f"{page.relative_to(ROOT)} is not of its records")
    return lines


def _without_command(page: str) -> str:
    return re.sub(r"^- Made by: .*$", "", page, flags=re.M)


def main() -> int:
    """Prints what differs; returns the exit status."""
    lines = wrong_figures() + stale_tables()
    print("\n".join(lines or ["every figure is that of its records"]))
    return 1 if lines else 0


if __name__ == "__main__":
    command_line.run(main)
