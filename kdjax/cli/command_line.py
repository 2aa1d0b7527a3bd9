"""Runs a command, whatever it prints and whatever becomes of that.

Imports nothing heavy, and needs no extra.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn


def escaped(text: str) -> str:
    """Returns a text on one line, without characters that a terminal would act on.

    Names of files and classes may hold any; they are written as in a Python string.
    """
    return "".join(
        # A surrogate stands for a byte of a file name that is not UTF-8.
        char if char.isprintable() else ascii(char)[1:-1]
        for char in text
    )


class _Escaping:
    """A stream that escapes what a terminal would act on, but for ends of lines."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        if not text.isascii() or not text.isprintable():
            lines = text.split("\n")
            text = "\n".join(escaped(line.replace("\t", "    ")) for line in lines)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def run(main: Callable[[], Any]) -> NoReturn:
    """Runs a command and ends the process with its status.

    A reader that has seen enough, as `head`, changes nothing, and neither do streams
    that were closed from the start. An output that cannot be written, as to a full
    disk, is one line and status 2.

    Args:
      main: returns the status, or None for 0.
    """
    _open_closed_streams()
    # Letters that the encoding lacks are escaped, too.
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout = _Escaping(sys.stdout)
    try:
        try:
            status = main()
        except SystemExit as end:  # As after --help.
            status = end.code
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        status = 0
    except OSError as error:
        _discard_output()
        print(f"kdjax: standard output: {error.strerror}", file=sys.stderr)
        status = 2
    sys.exit(status)


def _open_closed_streams() -> None:
    """Opens the null device in place of what was closed before Python started.

    Otherwise the next file that is opened, of whatever kind, would get the output.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _discard_output() -> None:
    """Leaves nothing that Python would try to write at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
