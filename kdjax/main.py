"""Command line: trains what a configuration file describes.

python -m kdjax.main --config=configs/overhaul.py:wrn_28_4-wrn_16_2 --workdir=DIR
"""

import os
import pathlib
import re
import sys
from typing import NoReturn

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from kdjax import installation, train
from kdjax.runs import multihost, signals

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "File under configs/, and after a colon what it is to be made for."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of this run.")
_MULTIHOST = flags.DEFINE_bool(
    "multihost", False, "Train together with other processes, each of which runs this."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of the first process; else from the environment."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes; likewise.")
_PROCESS = flags.DEFINE_integer("process", None, "Place of this one; likewise.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Runs the experiment; a user's mistake ends it with one line and status 2."""
    if len(argv) > 1:
        _refuse(f"unexpected argument {argv[1]!r}")
    if not jax.config.jax_compilation_cache_dir:
        # Private to the user: what lies there is run.
        cache = pathlib.Path.home() / ".cache" / "kdjax" / "compilation"
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if not flags.FLAGS["verbosity"].present:
        # Orbax tells of every checkpoint at the level of information, and of what
        # fails by many tracebacks before it raises it.
        logging.set_verbosity(logging.FATAL)
    stopped = f"the same command goes on (status {signals.STOPPED})"
    try:
        if _MULTIHOST.value:
            multihost.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        with signals.stop_at_once(f"{_WORKDIR.value}: stopped; {stopped}"):
            result = train.train_and_evaluate(_CONFIG.value, _WORKDIR.value)
    except (ValueError, FloatingPointError) as error:
        logging.debug("", exc_info=True)
        _refuse(error)
    # A step or a save that the other processes had a part in fails without them.
    except (OSError, jax.errors.JaxRuntimeError) as error:
        if not (_MULTIHOST.value or isinstance(error, OSError)):
            raise
        logging.debug("", exc_info=True)
        hint = "; if another process is gone, start them all again"
        _refuse(f"{error}{hint * _MULTIHOST.value}")
    except KeyboardInterrupt:
        print(f"{_WORKDIR.value}: interrupted, not saved; {stopped}")
        sys.exit(signals.STOPPED)
    if result is None:
        print(f"{_WORKDIR.value}: stopped and saved; {stopped}")
        sys.exit(signals.STOPPED)
    if not result:
        return
    best, accuracy = "best", result["best_test_accuracy"]
    if accuracy is None:
        best, accuracy = "best validation accuracy", result["best_validation_accuracy"]
    print(
        f"{_WORKDIR.value}: test accuracy {result['final_test_accuracy']:.2%} at the "
        f"last step {result['final_step']}, {best} {accuracy:.2%} at step "
        f"{result['best_step']}"
    )


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags, and turns the many errors of configurations into one line."""
    argv = [_locate_config(argument) for argument in argv]
    try:
        arguments = flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        _refuse(_unknown_field(str(error.args[0]), argv))
    except (flags.Error, TypeError, ValueError, OSError) as error:
        _refuse(error)
    path, _, _ = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    if not pathlib.Path(path).is_file():
        _refuse(f"--config={path}: there is no such file")
    return arguments


def _locate_config(argument: str) -> str:
    """Lets --config=configs/NAME.py name a packaged config from any folder."""
    if path := re.match(r"--?config=([^:]+)", argument):
        return argument.replace(path[1], installation.find_config(path[1]), 1)
    return argument


def _unknown_field(message: str, argv: list[str]) -> str:
    """Finds the override that ml_collections speaks of: it names the last part only."""
    name = re.search(r"\w+", message).group()
    field = re.compile(rf"--config\.(.*\.)?{name}(=|$)")
    override = next(filter(field.match, argv), f"a --config override of {name}")
    suggestion = re.search(r"Did you mean .*\?", message)
    return f"{override}: no such field. {suggestion.group() if suggestion else ''}"


def _refuse(error: object) -> NoReturn:
    """Ends the program with one line and status 2."""
    # An error in a configuration file comes with its traceback before it.
    *_, reason = re.split(r"^\w+(?:Error|Exception): ", str(error), flags=re.MULTILINE)
    print("kdjax:", " ".join(reason.split()), file=sys.stderr, flush=True)
    if flags.FLAGS.is_parsed() and _MULTIHOST.value:
        # Not in the usual way, which waits for the other processes.
        os._exit(2)
    sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
