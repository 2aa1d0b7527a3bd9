"""Runs the papers' comparisons of settings, one question each.

    python -m experiments.ablations ofd_margin --quick --out=runs/ablations
    python -m experiments.ablations mhgd_heads,fractions --seeds=3 --out=runs/ablations

trains one teacher, and over --seeds the student alone and with every setting of the
question. --quick takes 96 digits and small networks, minutes of a CPU for a question;
without it the runs are those of the papers on CIFAR-100. --pair asks them of other
networks, and --teacher of a trained one. The questions are

{questions}

and all. What is done is skipped, and questions share what they have in common, so the
same command again finishes the job. What follows `--` is handed to every run.

Each question ends with its table, which is also written to QUESTION.md below --out:
test accuracy in percent after the last epoch, and the differences from the student
alone and from the method's own setting, paired by seed, with 95 % t-intervals from
three seeds on. --table only makes the tables, of the runs or of a records.jsonl there.
"""

import argparse
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kdjax.cli import command_line, home
from kdjax.runs import console

from . import ablation_report, compare
from .ablation_table import ABLATIONS, ALONE, QUICK, REAL, Ablation, Form, Setting
from .runner import STOPPED, Cell, Runner

_ALL = "all"
_MADE_BY = re.compile("^- Made by: `(.*)`$", re.MULTILINE)


def settings(ablation: Ablation, form: Form) -> list[Setting]:
    """Returns the settings of a question in one form, the student alone first."""
    chosen = [s for s in ablation.settings if form is REAL or s.quick is not None]
    if not any(setting.method == ALONE for setting in chosen):
        chosen.insert(0, Setting("alone", ALONE))
    return chosen


def fields(setting: Setting, form: Form) -> dict[str, Any]:
    """Returns the fields of the configuration that a setting overrides."""
    return {
        **form.fields,
        **setting.fields,
        **((setting.quick or {}) if form is not REAL else {}),
    }


def folder(ablation: Ablation, setting: Setting, form: Form) -> pathlib.PurePath:
    """Returns where the runs of a setting lie below the folder of all runs.

    Equal settings of two questions have equal folders.
    """
    names = [f"{field.split('.')[-1]}={x}" for field, x in setting.fields.items()]
    method = "alone" if setting.method == ALONE else setting.method
    return _root(ablation, form) / _pair(ablation, form) / ",".join([method, *names])


def _configs() -> str:
    return os.path.relpath(pathlib.Path(__file__).parent.parent / "configs")


def _pair(ablation: Ablation, form: Form) -> str:
    return form.pair or ablation.pair


def _root(ablation: Ablation, form: Form) -> pathlib.PurePath:
    parts = (form.data, ablation.recipe) if form.uses_recipe else (form.data,)
    return pathlib.PurePath(*parts)


def plan(
    out: pathlib.Path,
    ablations: Mapping[str, Ablation],
    form: Form,
    seeds: int,
    teacher: pathlib.Path | None = None,
) -> list[Cell]:
    """Lists the runs: teachers, then one seed of every setting before the next seed.

    Args:
      out: folder of all runs.
      ablations: the questions by name.
      form: how large the runs are.
      seeds: of a student.
      teacher: work directory of a trained one, in place of new ones.
    """
    teachers, students = {}, {}
    for seed in range(seeds):
        for name, ablation in ablations.items():
            network, student = _pair(ablation, form).split("-")
            argument = f",{form.data}" + f",{ablation.recipe}" * form.uses_recipe
            root = out / _root(ablation, form)
            taught = teacher or root / "teachers" / network / "seed_0"
            if not teacher:
                teachers[taught] = Cell(
                    f"teacher {network}",
                    f"{_configs()}/teacher.py:{network}{argument}",
                    taught,
                    0,
                    overrides=_flags(form.fields),
                )
            for setting in settings(ablation, form):
                workdir = out / folder(ablation, setting, form) / f"seed_{seed}"
                alone = setting.method == ALONE
                config = f"{_configs()}/student.py:{student}"
                if not alone:
                    _, config = compare.find_config(setting.method)
                    config += f"{network}-{student}"
                cell = Cell(
                    f"{name}, {setting.label}, seed {seed}",
                    config + argument,
                    workdir,
                    seed,
                    None if alone else taught,
                    _flags(fields(setting, form)),
                )
                students.setdefault(workdir, cell)
    return [*teachers.values(), *students.values()]


def _flags(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"--config.{field}={value}" for field, value in values.items())


def _names(text: str) -> dict[str, Ablation]:
    names = list(ABLATIONS) if text == _ALL else compare.names(text)
    unknown = [name for name in names if name not in ABLATIONS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown) or 'nothing'!r} is none of {', '.join(ABLATIONS)}, "
            f"{_ALL}"
        )
    return {name: ABLATIONS[name] for name in names}


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, ABLATIONS))
    questions = "\n".join(
        f"    {name:{width}}  {ablation.question}"
        for name, ablation in ABLATIONS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m experiments.ablations",
        usage="%(prog)s QUESTION,... --out=DIR [...] [-- --config.X=Y]",
        description=__doc__.format(questions=questions),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("questions", type=_names, help="with commas, or all")
    add("--quick", action="store_true", help="on the digits, for a CPU")
    add("--seeds", type=compare.count, default=3, help="of a student; default: 3")
    add("--pair", help="teacher-student; default: that of the question")
    add(
        "--teacher",
        type=home.argument,
        help="work directory of a finished run or of kdjax.interop.torch_import whose "
        "network teaches instead of a new one; with --pair",
    )
    add("--replicas", action="store_true", help="all seeds of a setting in one program")
    add("--out", type=home.argument, required=True, help="folder of all runs")
    add("--jobs", type=compare.count, default=1, help="runs at a time; default: 1")
    add("--table", action="store_true", help="only make the tables")
    add("--dry_run", action="store_true", help="print the commands, one a line")
    return parser


def _read(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and those of the runs, after `--`."""
    # Two positional arguments confuse argparse.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return _parser().parse_args(arguments[:end]), list(arguments[end + 1 :])


def _form(given: argparse.Namespace) -> Form:
    form = QUICK if given.quick else REAL
    return form._replace(pair=given.pair) if given.pair else form


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the questions and prints their tables; returns the exit status."""
    given, overrides = _read(sys.argv[1:] if arguments is None else arguments)
    form = _form(given)
    command = _command(given, overrides)
    try:
        if given.pair:
            compare.check_names(form.data, [given.pair])
        if given.teacher:
            if not given.pair:
                raise ValueError(f"teacher={given.teacher} needs --pair")
            compare.check_teacher(given.teacher, {given.pair.split("-")[0]})
        cells = plan(given.out, given.questions, form, given.seeds, given.teacher)
        if given.replicas:
            cells = compare.in_one_program(cells)
        if given.dry_run:
            compare.print_commands(cells, overrides)
            return 0
        if given.table:
            _report(given.out, given.questions, form, command)
            return 0
        compare.check([cell for cell in cells if not cell.done], overrides)
    except (ValueError, OSError) as error:
        console.print_error("ablations", error)
        return 2
    runner = Runner(overrides, jobs=given.jobs)
    runner.stop_at_signals()
    failures = runner.run(cells)
    done = sum(cell.num_done for cell in cells)
    count = sum(cell.replicas for cell in cells)
    if done:
        _report(given.out, given.questions, form, command)
    print(f"{done} of {count} runs done")
    for failure in failures:
        console.print_error("failed", failure)
    if runner.stopped and done < count:
        print("stopped; the same command resumes", file=sys.stderr)
        return STOPPED
    return 0 if done == count else 1


def _command(given: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    """Returns the flags that lead to the tables, but for the questions."""
    flags = ["--quick"] * given.quick
    flags += [f"--pair={given.pair}"] * bool(given.pair)
    flags += ["--teacher=TEACHER"] * bool(given.teacher)
    flags += ["--replicas"] * given.replicas
    return [*flags, "--out=DIR", *(["--", *overrides] if overrides else [])]


def _report(
    out: pathlib.Path,
    ablations: Mapping[str, Ablation],
    form: Form,
    flags: Sequence[str],
) -> None:
    """Prints the table of every question and writes its page.

    Args:
      out: folder of all runs.
      ablations: the questions by name.
      form: how large the runs are.
      flags: of the command, for the pages.

    Raises:
      ValueError: if there is no finished run.
    """
    for name, ablation in ablations.items():
        made = ablation_report.collect(out, ablation, _folders(ablation, form))
        file = out / f"{name}.md"
        command = shlex.join(["python", "-m", "experiments.ablations", name, *flags])
        text = ablation_report.page(name, ablation, made, out, command)
        file.write_text(text, encoding="utf-8")
        print(f"{ablation.question}\n\n{ablation_report.table(made, 'simple')}\n")
        print(f"wrote {shlex.quote(str(file))}\n")


def _folders(ablation: Ablation, form: Form) -> ablation_report.Folders:
    return [
        (setting, folder(ablation, setting, form).as_posix())
        for setting in settings(ablation, form)
    ]


class Page(NamedTuple):
    """The page of a question: its rows, and all of its text."""

    rows: list[ablation_report.Row]
    text: str


def rewritten(out: pathlib.Path) -> dict[pathlib.Path, Page]:
    """Returns the pages of the questions that have one, as they would be written now.

    Args:
      out: folder of the pages and of the runs, or of their records.

    Raises:
      ValueError: if a page has no finished run.
    """
    found = {}
    for name, ablation in ABLATIONS.items():
        file = out / f"{name}.md"
        if file.exists():
            command = _MADE_BY.search(file.read_text("utf-8"))[1]
            given, _ = _read(shlex.split(command)[3:])
            folders = _folders(ablation, _form(given))
            rows = ablation_report.collect(out, ablation, folders)
            text = ablation_report.page(name, ablation, rows, out, command)
            found[file] = Page(rows, text)
    return found


if __name__ == "__main__":
    command_line.run(main)
