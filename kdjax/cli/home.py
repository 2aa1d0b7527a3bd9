"""Paths of this machine, in a user's home or elsewhere; containers may have no home."""

import argparse
import os
import pathlib
import re


def expanded(path: str | os.PathLike[str]) -> pathlib.Path:
    """Expands "~" in a path.

    Raises:
      ValueError: if there is no such user, or the user has no home; or if it is a URL,
        as of a bucket, for which Python would create a local folder.
    """
    # `pathlib` makes one slash of two.
    if re.match(r"\w{2,}:/", os.fspath(path)):
        raise ValueError(
            f"{os.fspath(path)} is a URL: only local files and folders are read and "
            "written"
        )
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{os.fspath(path)}: that home is not known") from None


def argument(text: str) -> pathlib.Path:
    """Returns `expanded`, as the type of an argument of a command."""
    try:
        return expanded(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
