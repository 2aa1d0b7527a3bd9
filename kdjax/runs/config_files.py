"""Configuration files on the command line, and a list of those that kdjax ships."""

import ast
import pathlib
import textwrap
from collections.abc import Sequence

from kdjax.cli import home, installation


def with_paths(argv: Sequence[str]) -> list[str]:
    """Replaces the name of a config that kdjax ships after `--config` by its path.

    Raises:
      ValueError: if there is no such file.
    """
    arguments = list(argv)
    for index, argument in enumerate(argv):
        flag, equals, value = argument.partition("=")
        if flag not in ("--config", "-config"):
            continue
        if not equals:
            index, value = index + 1, "".join(argv[index + 1 : index + 2])
        path, colon, made_for = value.partition(":")
        if not path:
            continue
        file = installation.find_config(str(home.expanded(path)))
        if not pathlib.Path(file).is_file():
            raise ValueError(
                f"--config={path}: there is no such file; --help lists those of kdjax"
            )
        arguments[index] = f"{flag}=" * bool(equals) + f"{file}{colon}{made_for}"
    return arguments


def listing(columns: int = 79) -> str:
    """Returns a line for each of kdjax's own files: its name and what it trains."""
    student = pathlib.Path(installation.find_config("configs/student.py"))
    files = sorted(student.parent.glob("[!_]*.py"))
    width = max((len(file.name) for file in files), default=0)
    lines = []
    for file in files:
        room = columns - width - 4
        purpose = textwrap.shorten(_purpose(file), room, placeholder=" ...")
        lines.append(f"  {file.name:{width}}  {purpose}")
    return "\n".join(lines)


def _purpose(file: pathlib.Path) -> str:
    """Returns the first paragraph of a file's docstring; does not run the file."""
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    return " ".join(docstring.partition("\n\n")[0].split())
