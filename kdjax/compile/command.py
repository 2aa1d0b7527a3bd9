"""The process that `python -m kdjax.compile` starts to compile."""

import faulthandler
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

# Before JAX looks for devices: the weights are made on the CPU.
os.environ["JAX_PLATFORMS"] = "cpu"

from absl import app, flags
from ml_collections import config_flags

from kdjax.cli import command_line
from kdjax.runs import config_files, console, messages

# Apart from absl's own flags, so that importing this module adds none to others.
_FLAGS = flags.FlagValues()
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file.", flag_values=_FLAGS
)
_TARGET = flags.DEFINE_string("target", "h100", "Accelerator.", flag_values=_FLAGS)
_DEVICES = flags.DEFINE_integer("devices", None, "Number of GPUs.", flag_values=_FLAGS)
_LARGEST_BATCH = flags.DEFINE_bool(
    "largest_batch", True, "Compile twice.", flag_values=_FLAGS
)
_JSON = flags.DEFINE_bool("json", False, "Print JSON.", flag_values=_FLAGS)


def main(argv: list[str]) -> None:
    """Runs the command; a user's mistake ends it with one line and status 2."""
    if len(argv) > 1:
        _refuse(f"unexpected argument {argv[1]!r}")
    # The parent says that a compiler crashed.
    faulthandler.disable()
    try:
        _compile()
    except (ValueError, OSError, ModuleNotFoundError) as error:
        _refuse(error)


def _compile() -> None:
    """Compiles each phase and prints what it needs.

    Raises:
      ValueError: if the experiment or the target is none.
    """
    from kdjax import numerics
    from kdjax.compile import targets
    from kdjax.config import checks

    config = _CONFIG.value
    target, shape = targets.find(_TARGET.value, _DEVICES.value)
    devices = targets.devices(target, shape)
    with config.unlocked():
        config.teacher.checkpoint = config.teacher.checkpoint or "not read"
    checks.check(config)
    with numerics.matmul_precision(config):
        _print(config, target, devices)


def _print(config: Any, target: Any, devices: Sequence[Any]) -> None:
    """Prints what each phase needs as soon as it is compiled."""
    from kdjax.compile import measure, report

    measured = measure.measure(
        config, target, devices, largest_batch=_LARGEST_BATCH.value
    )
    for number, phase in enumerate(measured):
        found = report.record(
            phase,
            target,
            num_devices=len(devices),
            batch_size=config.batch_size,
            dtype=config.dtype,
        )
        if _JSON.value:
            print(json.dumps(found), flush=True)
        else:
            print("\n" * bool(number) + report.text(found, target), flush=True)


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; errors in flags and config files become one line."""
    try:
        rest = _FLAGS(config_files.with_paths(argv), known_only=True)
        arguments = flags.FLAGS(rest)
    except Exception as error:  # Of a flag, or anything that a config file raises.
        _refuse(messages.parsing_error(error, argv))
    if _CONFIG.value is None:
        _refuse(
            "--config is missing: a file, such as "
            "--config=configs/distill.py:ofd,wrn_28_4-wrn_16_2"
        )
    try:
        messages.check_config(_CONFIG.value, argv)
    except ValueError as error:
        _refuse(error)
    return arguments


def _refuse(error: object) -> None:
    """Ends the program with one line and status 2."""
    console.print_error("compile", messages.one_line(error))
    sys.exit(2)


if __name__ == "__main__":
    command_line.run(lambda: app.run(main, flags_parser=_parse_flags))
