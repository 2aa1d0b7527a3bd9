"""Turns errors of other libraries into one line.

Hooks and filters for their loggers are defined here; only a command installs them.
"""

import logging
import pathlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

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
    if isinstance(error, flags.Error | TypeError | ValueError | OSError):
        return one_line(error)
    return f"--config: {type(error).__name__}: {one_line(error)}"


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
    best, accuracy = "best", result["best_test_accuracy"]
    if accuracy is None:
        best, accuracy = "best validation accuracy", result["best_validation_accuracy"]
    return (
        f"test accuracy {result['final_test_accuracy']:.2%} at the last step "
        f"{result['final_step']}, {best} {accuracy:.2%} at step {result['best_step']}"
    )
