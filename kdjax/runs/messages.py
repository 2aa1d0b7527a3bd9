"""Turns errors of other libraries into one line.

Hooks and filters for their loggers are defined here; only a command installs them.
"""

import logging
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections.config_flags import config_flags as loader

from kdjax.runs import console

#: Packages that log every checkpoint, and errors that they raise as well.
_CHATTY = ("orbax", "grain")

#: TensorStore reports writes to an event loop that a failed save has closed.
_AFTER_FAILED_SAVE = "Event loop is closed"


def one_line(error: object) -> str:
    """Returns an error's message on one line.

    ml_collections wraps an error in a config file into its traceback; the message is
    then what follows the last exception's name.
    """
    *_, reason = re.split(
        r"^[\w.]*(?:Error|Exception|Exit): ", str(error), flags=re.MULTILINE
    )
    return console.escaped(" ".join(reason.split()))


def parsing_error(error: Exception, argv: Sequence[str]) -> str:
    """Returns the message for an error in the command line or in a config file.

    Args:
      error: of absl, of ml_collections, or of the config file's own code.
      argv: the command line.
    """
    if isinstance(error, AttributeError | KeyError):
        # Also what ml_collections raises for a field that does not exist. It gives the
        # last part of its name only.
        message = str(error.args[0]) if error.args else ""
        name = re.search(r"\w+|$", message).group()
        pattern = re.compile(rf"--?config\.(.*\.)?{name}(\.|=|$)")
        if (override := next(filter(pattern.match, argv), None)) is not None:
            suggestion = re.search(r"Did you mean .*\?|$", message).group()
            hint = suggestion or "--dry_run lists the fields"
            if re.match(rf"--?config\.methods\.{name}\b", override):
                hint = "configs/distill.py:METHOD+METHOD,... takes several methods"
            return f"{override}: no such field. {hint}"
        if "has no attribute 'get_config'" in message:
            return f"{_config_of(argv)}: the file defines no function get_config"
    where, is_its_own = _place_in_config(error)
    expected = isinstance(error, flags.Error | TypeError | ValueError | OSError)
    if expected and not (is_its_own and where):
        return one_line(error)
    config = f"{_config_of(argv)}{where}"
    return f"{config}: {type(error).__name__}: {one_line(error)}"


def check_config(config: object, argv: Sequence[str]) -> None:
    """Rejects what a config file returns if it is no configuration.

    Raises:
      ValueError: names the file.
    """
    if not isinstance(config, ml_collections.ConfigDict):
        raise ValueError(
            f"{_config_of(argv)}: get_config returns {type(config).__name__}, not an "
            "ml_collections.ConfigDict"
        )


def _config_of(argv: Sequence[str]) -> str:
    """Returns the flag that names the config file, without what it is made for."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        flag, equals, value = argument.partition("=")
        if flag in ("--config", "-config"):
            return f"--config={(value if equals else following).partition(':')[0]}"
    return "--config"


def _place_in_config(error: Exception) -> tuple[str, bool]:
    """Returns ", line N" of a config file, and whether the error was raised there.

    The place is empty if the error is not of the file's code.
    """
    if isinstance(error, flags.Error):
        return "", False
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}", True
    frames = traceback.extract_tb(error.__traceback__)
    loaders = [i for i, x in enumerate(frames) if x.filename == loader.__file__]
    own = [
        (index, frame.lineno)
        for index, frame in enumerate(frames)
        if loaders and index > loaders[-1] and not frame.filename.startswith("<")
    ]
    if not own:
        return "", False
    index, line = own[0]
    return f", line {line}", index == len(frames) - 1


def keep_record(record: logging.LogRecord) -> bool:
    """Filters log records: False for those that only repeat what is raised."""
    packages = pathlib.PurePath(record.pathname).parts
    return not any(name in packages for name in _CHATTY)


def unraisable_hook(
    report: Any, default: Callable[[Any], None] = sys.__unraisablehook__
) -> None:
    """Ignores callbacks of writes that belong to a failed save; for `sys`."""
    if str(report.exc_value) != _AFTER_FAILED_SAVE:
        default(report)


def accuracies(result: Mapping[str, Any]) -> str:
    """Returns the line that a finished run ends with.

    Args:
      result: what `result.json` holds.
    """
    last = (
        f"test accuracy {result['final_test_accuracy']:.2%} at the last step "
        f"{result['final_step']}"
    )
    splits = {"best": "test", "best validation accuracy": "validation"}
    for best, split in splits.items():
        if (accuracy := result.get(f"best_{split}_accuracy")) is not None:
            return f"{last}, {best} {accuracy:.2%} at step {result['best_step']}"
    return last
