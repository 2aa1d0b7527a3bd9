"""Words that messages about data have in common."""

import os
from collections.abc import Sequence

from kdjax.cli.command_line import escaped
from kdjax.runs import console

_NAMED = 5  # Names in a message; the others are counted.


def setting(data_dir: str | os.PathLike[str]) -> str:
    """Returns the config field and its value."""
    return f"data.data_dir={os.fspath(data_dir)!r}"


def some(names: Sequence[str]) -> str:
    """Joins the first few names and counts the others."""
    more = len(names) - _NAMED
    shown = ", ".join(map(escaped, names[:_NAMED]))
    return shown + (f" and {more} more" if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """Returns a number and a noun, in the plural unless the number is 1."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending * (number != 1)}"


def other_size(where: str, size: tuple[int, int], others: tuple[int, int]) -> str:
    """Says that an image has another width and height than the others."""
    found, expected = (f"{width}x{height}" for width, height in (size, others))
    return f"{where} has {found} pixels and others {expected}: set data.image_size"


def note(text: str) -> None:
    """Prints a line on stderr."""
    console.print_error("kdjax", text)
