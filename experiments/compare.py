"""Runs a comparison: every method on every pair over several seeds.

    python -m experiments.compare --data=digits --pairs=wrn_16_2-wrn_16_1 \\
        --methods=none,overhaul --seeds=3 --out=runs/comparison

Methods are named as `python -m kdjax.distill` lists them, or by their short names (kd,
at, ofd, ...); several are joined as in overhaul+kd; none is the student trained alone.
A configuration file is a method too, by its name: those in configs/, and your own in
the folder that --configs names, which are looked up first and take "teacher-student,
data" as their argument. --recipe compares all under one recipe (ofd, mhgd, crd,
review) instead of each under that of its paper.

Each cell is an ordinary run in a folder of its own, `DATA/PAIR/METHOD/seed_N` below
`--out`, and each teacher one in `DATA/teachers/NETWORK/seed_N`. What is done is
skipped and what is half done goes on, so the same command again finishes the job. A
cell that fails does not stop the others. What follows `--` is handed to every run:

    python -m experiments.compare ... -- --config.epochs=30 --config.dtype=bfloat16

All is checked before the first run starts. The comparison ends with the table of
`experiments.report`, which is also written to files below `--out`, with learning
curves.
"""

import argparse
import dataclasses
import os
import pathlib
import shlex
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from kdjax.cli import command_line, home
from kdjax.runs import console

from . import report
from .runner import STOPPED, Cell, Runner

if TYPE_CHECKING:
    import ml_collections

_CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
_ALONE = "none"
#: Files in configs/ that are no method, or take other arguments than a pair.
_NO_METHOD = ("digits", "distill", "mhgd_heads", "student", "teacher")


def find_config(method: str, own: pathlib.Path | None = None) -> tuple[str, str]:
    """Finds the configuration of a method.

    Args:
      method: name of a file, name or alias of a method, or several joined by "+".
      own: folder that is searched before configs/.

    Returns:
      The name under which the method's runs are kept, and the configuration file up to
      the networks.

    Raises:
      ValueError: if there is none.
    """
    from kdjax import distill

    own_names = {path.stem for path in own.glob("*.py")} if own else set()
    if method in own_names:
        return method, f"{own}/{method}.py:"
    known = {path.stem for path in _CONFIGS.glob("*.py")} - {*_NO_METHOD, "__init__"}
    try:
        names = method if method in known else _canonical(method)
    except ValueError:
        listed = ", ".join(sorted({_ALONE, *own_names, *known, *distill.METHODS}))
        short = ", ".join(sorted(distill.ALIASES))
        raise ValueError(
            f"methods: {method!r} is none of {listed}; or, for short, {short}; a "
            "configuration in --configs is named as its file"
        ) from None
    here = os.path.relpath(_CONFIGS)
    if names in known:
        return names, f"{here}/{names}.py:"
    return names, f"{here}/distill.py:{names},"


def _canonical(methods: str) -> str:
    from kdjax import distill

    return "+".join(distill.canonical(name) for name in methods.split("+"))


def plan(
    out: pathlib.Path,
    *,
    data: str,
    pairs: Sequence[str],
    methods: Sequence[str],
    seeds: int,
    own_configs: pathlib.Path | None = None,
    recipe: str | None = None,
    teacher_seeds: int | None = None,
    teacher: pathlib.Path | None = None,
) -> list[Cell]:
    """Lists the runs of a comparison, every teacher before those it teaches.

    Pairs share the runs of their students alone and of their teachers.

    Raises:
      ValueError: if the data set, a network, a method or the recipe is unknown; or if
        the given teacher is not trained, or another network.
    """
    check_names(data, pairs, recipe)
    networks = {pair.split("-")[0] for pair in pairs}
    if teacher:
        check_teacher(teacher, networks)
    if own_configs and not own_configs.is_dir():
        raise ValueError(f"configs={own_configs} is not a folder")
    configs = dict(
        find_config(method, own_configs) for method in methods if method != _ALONE
    )
    root, argument = out / data, f",{data}" + (f",{recipe}" if recipe else "")
    here = os.path.relpath(_CONFIGS)
    cells = {}

    def add(name: str, config: str, folder: pathlib.Path, seed: int, *teacher) -> None:
        workdir = folder / f"seed_{seed}"
        cells.setdefault(
            workdir,
            Cell(f"{name} seed {seed}", config + argument, workdir, seed, *teacher),
        )

    for pair in pairs:
        network, student = pair.split("-")
        for seed in range(seeds):
            trained = teacher
            if configs and not teacher:
                teacher_seed = seed % (teacher_seeds or seeds)
                folder = root / "teachers" / network
                trained = folder / f"seed_{teacher_seed}"
                name = f"teacher {network}"
                add(name, f"{here}/teacher.py:{network}", folder, teacher_seed)
            if _ALONE in methods:
                folder = root / "students" / student
                name = f"student {student}"
                add(name, f"{here}/student.py:{student}", folder, seed)
            for method, config in configs.items():
                name = method if len(pairs) == 1 else f"{method} {pair}"
                add(name, config + pair, root / pair / method, seed, trained)
    return sorted(cells.values(), key=lambda cell: cell.teacher is not None)


def in_one_program(cells: Sequence[Cell]) -> list[Cell]:
    """Joins the runs that differ in their seeds alone, and these follow each other."""
    groups: dict[tuple, list[Cell]] = {}
    for cell in cells:
        kind = cell.config, cell.workdir.parent, cell.teacher, cell.overrides
        groups.setdefault(kind, []).append(cell)
    joined = []
    for (_, folder, *_), group in groups.items():
        first, last = group[0], group[-1]
        seeds = [cell.seed for cell in group]
        if len(group) == 1 or seeds != list(range(first.seed, last.seed + 1)):
            joined += group
            continue
        name = first.name.removesuffix(f" seed {first.seed}")
        joined.append(
            dataclasses.replace(
                first,
                name=f"{name} seeds {first.seed} to {last.seed}",
                workdir=folder,
                replicas=len(group),
            )
        )
    return joined


def check_teacher(workdir: pathlib.Path, networks: Collection[str]) -> None:
    """Rejects a given teacher that is not trained or not the pairs' network."""
    from kdjax.runs import trained, workdirs

    config = workdirs.read_config(workdir)
    if config is None or not trained.is_finished(workdir):
        raise ValueError(f"teacher={workdir} is neither a finished run nor an import")
    if networks != {config["model"]}:
        raise ValueError(
            f"teacher={workdir} holds a {config['model']}, and the pairs ask for "
            f"{', '.join(sorted(networks))}"
        )


def check_names(data: str, pairs: Sequence[str], recipe: str | None = None) -> None:
    """Rejects names of data sets, networks and recipes that there are not."""
    # These take two seconds that `--help` need not wait for.
    from kdjax import models, recipes

    for name, value, known in (
        ("data", data, recipes.DATA),
        ("recipe", recipe, recipes.RECIPES),
    ):
        if value is not None and value not in known:
            raise ValueError(f"{name}={value!r} is none of {', '.join(sorted(known))}")
    for pair in pairs:
        if pair.count("-") != 1:
            raise ValueError(f"pairs: {pair!r} is not of the form teacher-student")
        for network in pair.split("-"):
            try:
                models.build(network, num_classes=10)
            except ValueError as error:
                raise ValueError(f"pairs: {pair!r}: {error}") from None


def check(cells: Sequence[Cell], overrides: Sequence[str]) -> None:
    """Checks the configurations of all runs, one seed of each, as the runs will.

    Raises:
      ValueError, OSError: names the configuration and what is wrong with it.
    """
    kinds: dict[tuple, Cell] = {}
    for cell in cells:
        kinds.setdefault((cell.config, cell.overrides), cell)
    for cell in kinds.values():
        read_config(cell, overrides)


def read_config(cell: Cell, overrides: Sequence[str]) -> "ml_collections.ConfigDict":
    """Returns the checked configuration of a run.

    Raises:
      ValueError, OSError: names the configuration and what is wrong with it.
    """
    import jax
    from absl import flags
    from ml_collections import config_flags

    from kdjax.config import checks
    from kdjax.runs import messages

    # The accelerator is for the runs; nothing is computed here.
    jax.config.update("jax_platforms", "cpu")
    argv = [a for a in cell.command(overrides)[2:] if a.startswith("--config")]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file(
        "config", None, flag_values=values, sys_argv=["compare", *argv]
    )
    try:
        values(["compare", *argv])
        checks.check(holder.value)
    except (LookupError, AttributeError, ValueError, TypeError, OSError) as error:
        reason = messages.parsing_error(error, argv)
        raise ValueError(f"{cell.config}: {reason}") from None
    except flags.Error as error:
        raise ValueError(f"{cell.config}: {error}") from None
    return holder.value


def print_commands(cells: Sequence[Cell], overrides: Sequence[str]) -> None:
    """Prints the commands of the runs, one a line."""
    for cell in cells:
        print(shlex.join(cell.command(overrides)))


def names(text: str) -> list[str]:
    """Reads names with commas between them."""
    return [name for name in text.split(",") if name]


def count(text: str) -> int:
    """Reads an integer of at least 1."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


count.__name__ = "integer of 1 or more"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.compare",
        usage="%(prog)s --pairs=TEACHER-STUDENT,... --out=DIR [...] [-- --config.X=Y]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data", default="cifar100", help="data set; default: cifar100")
    add("--pairs", type=names, required=True, help="teacher-student, with commas")
    add("--methods", type=names, default=[_ALONE, "overhaul"], help="with commas")
    add("--configs", type=home.argument, help="folder of your own configurations")
    add("--recipe", help="recipe of all runs; default: that of each method")
    add("--seeds", type=count, default=3, help="seeds 0 to N-1 of every cell")
    add(
        "--teacher_seeds",
        type=count,
        help="teachers of each network; seed s learns from teacher s modulo N; "
        "default: one a seed",
    )
    add(
        "--teacher",
        type=home.argument,
        help="work directory of a finished run or of kdjax.interop.torch_import whose "
        "network teaches instead of a new one",
    )
    add(
        "--replicas",
        action="store_true",
        help="seeds with one teacher (--teacher, --teacher_seeds=1) are trained in one "
        "program; with -- --config.data.seed=0 they see the same batches, and the "
        "teacher sees each once",
    )
    add("--out", type=home.argument, required=True, help="folder of all runs")
    add("--jobs", type=count, default=1, help="runs at a time; default: 1")
    add("--dry_run", action="store_true", help="print the commands, one a line")
    add("overrides", nargs="*", help="flags of every run, after --")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Plans and runs the comparison; returns the exit status."""
    given = _parser().parse_args(arguments)
    try:
        cells = plan(
            given.out,
            data=given.data,
            pairs=given.pairs,
            methods=given.methods,
            seeds=given.seeds,
            own_configs=given.configs,
            recipe=given.recipe,
            teacher_seeds=given.teacher_seeds,
            teacher=given.teacher,
        )
        if given.replicas:
            cells = in_one_program(cells)
        if given.dry_run:
            print_commands(cells, given.overrides)
            return 0
        check([cell for cell in cells if not cell.done], given.overrides)
    except (ValueError, OSError) as error:
        console.print_error("compare", error)
        return 2
    runner = Runner(given.overrides, jobs=given.jobs)
    runner.stop_at_signals()
    return _finish(cells, runner, given.out)


def _finish(cells: Sequence[Cell], runner: Runner, out: pathlib.Path) -> int:
    """Runs the cells and prints what came of it; returns the exit status."""
    failures = runner.run(cells)
    done = sum(cell.num_done for cell in cells)
    count = sum(cell.replicas for cell in cells)
    if done:
        print(report.write(out, out))
    print(f"{done} of {count} runs done")
    for failure in failures:
        console.print_error("failed", failure)
    if done == count:
        return 0
    if runner.stopped:
        print("stopped; the same command resumes", file=sys.stderr)
        return STOPPED
    return 1


if __name__ == "__main__":
    command_line.run(main)
