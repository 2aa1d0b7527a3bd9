"""Trains the network that a configuration file describes, alone or distilled.

    python -m kdjax.main --config=configs/student.py:wrn_16_2,digits --workdir=runs/one

--config   a file of yours, or one of those below. After the colon stands what it is
           made for: a network, or for a method TEACHER-STUDENT, and after a comma the
           data set, if it is not CIFAR-100. --config.FIELD=VALUE changes any field:
           --config.optimizer.momentum=0.8
--workdir  folder for configuration, metrics, checkpoints and result. The same command
           again resumes a run that was stopped.
--dry_run  prints the configuration, checks it, and writes nothing.

On several hosts, start one process on each with --multihost; unless it runs on a
cluster that jax.distributed knows, add --coordinator=HOST:PORT of the first process,
--processes=NUMBER and --process=INDEX of this one, from 0.
"""

import faulthandler
import logging
import os
import sys
from typing import Any, NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from kdjax.cli import command_line, home
from kdjax.runs import compilation_cache, config_files, console, messages

# What takes seconds to import is imported where it is used, after the first line.

_SEE_ALSO = """\
More:
  python -m kdjax.models    networks
  python -m kdjax.distill   methods
  kdjax/data/datasets.py    data sets
  docs/configuration.md     fields of a configuration
"""

# Apart from absl's own flags, so that importing this module adds none to others.
_FLAGS = flags.FlagValues()
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file.", flag_values=_FLAGS
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run.", flag_values=_FLAGS
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Only print and check the config.", flag_values=_FLAGS
)
_MULTIHOST = flags.DEFINE_bool(
    "multihost", False, "Train with other processes.", flag_values=_FLAGS
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0.", flag_values=_FLAGS
)
_PROCESSES = flags.DEFINE_integer(
    "processes", None, "Number of processes.", flag_values=_FLAGS
)
_PROCESS = flags.DEFINE_integer(
    "process", None, "Index of this process.", flag_values=_FLAGS
)


def main(argv: list[str]) -> None:
    """Runs the command; a user's mistake ends it with one line and status 2."""
    if len(argv) > 1:
        _refuse(f"unexpected argument {argv[1]!r}")
    try:
        with console.progress("kdjax: importing JAX"):
            import jax

            from kdjax import numerics, train
            from kdjax.config import replicas
            from kdjax.runs import multihost, signals, summary
    except ModuleNotFoundError as error:  # Of an extra that is not installed.
        _refuse(error)
    _set_up_process(jax.config)
    if _CONFIG.value.get("deterministic"):
        numerics.request_determinism()
    resume = f"the same command resumes (status {signals.STOPPED})"
    workdir = _WORKDIR.value
    try:
        workdir = workdir and home.expanded(workdir)
        shown = console.escaped(str(workdir))
        if _DRY_RUN.value:
            described = summary.dry_run(_CONFIG.value, workdir)
        elif _MULTIHOST.value:
            multihost.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        if not _DRY_RUN.value:
            with signals.stop_at_once(f"{shown}: stopped; {resume}"):
                result = train.train_and_evaluate(_CONFIG.value, workdir)
    except (ValueError, FloatingPointError, OSError) as error:
        _refuse(error)
    except jax.errors.JaxRuntimeError as error:
        if not _MULTIHOST.value:
            raise
        # A step fails if another process is gone.
        _refuse(error)
    except KeyboardInterrupt:
        print(f"{shown}: interrupted, not saved; {resume}")
        sys.exit(signals.STOPPED)
    if _DRY_RUN.value:
        print(described)
        return
    if result is None:
        print(f"{shown}: stopped and saved; {resume}")
        sys.exit(signals.STOPPED)
    several = replicas.are_asked_for(_CONFIG.value)
    for name, of_run in (result if several else {"": result}).items():
        if of_run:
            folder = console.escaped(str(workdir / name))
            print(f"{folder}: {messages.accuracies(of_run)}")


def _set_up_process(jax_config: Any) -> None:
    """Sets what holds for the whole process: compilation cache, logs and hooks."""
    compilation_cache.set_up(jax_config)
    if not flags.FLAGS["verbosity"].present:
        absl_logging.set_verbosity(absl_logging.WARNING)
        logging.getLogger("absl").addFilter(messages.keep_record)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        sys.unraisablehook = messages.unraisable_hook
    # Python's tracker of shared memory frees what is left at the end. It also warns,
    # in a process of its own and as of a fault, of arrays that Grain has freed already.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    if _MULTIHOST.value:
        # If another process dies, JAX says so and aborts this one; the stacks of all
        # threads would hide its message.
        faulthandler.disable()


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; errors in flags and config files become one line."""
    if {"--help", "-help", "-h"} & set(argv):
        print(f"{__doc__}\nConfigurations:\n{config_files.listing()}\n\n{_SEE_ALSO}")
        sys.exit(0)
    try:
        with console.progress("kdjax: reading the configuration"):
            rest = _FLAGS(config_files.with_paths(argv), known_only=True)
            arguments = flags.FLAGS(rest)
    except Exception as error:  # Of a flag, or anything that a config file raises.
        _refuse(messages.parsing_error(error, argv))
    if _CONFIG.value is None:
        _refuse(
            "--config is missing: a file, such as "
            "--config=configs/student.py:wrn_16_2,digits; --help lists them"
        )
    try:
        messages.check_config(_CONFIG.value, argv)
    except ValueError as error:
        _refuse(error)
    if _WORKDIR.value is None and not _DRY_RUN.value:
        _refuse("--workdir is missing: the folder of the run, such as runs/student")
    return arguments


def _refuse(error: object) -> NoReturn:
    """Ends the program with one line and status 2."""
    absl_logging.debug("", exc_info=True)
    several = _FLAGS.is_parsed() and _MULTIHOST.value
    lost = several and isinstance(error, (OSError, RuntimeError))
    hint = "; if another process is gone, start them all again" * lost
    console.print_error("kdjax", f"{messages.one_line(error)}{hint}")
    if several:
        # A normal exit would wait for the other processes.
        os._exit(2)
    sys.exit(2)


def _run() -> None:
    try:
        app.run(main, flags_parser=_parse_flags)
    except KeyboardInterrupt:
        # Before the run handles signals itself; nothing is lost.
        console.print_error("kdjax", "interrupted before the start")
        sys.exit(os.EX_TEMPFAIL)


if __name__ == "__main__":
    command_line.run(_run)
