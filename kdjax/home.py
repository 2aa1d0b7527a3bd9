"""Folders in a user's home, of which containers may have none."""

import os
import pathlib


def expanded(path: str | os.PathLike[str]) -> pathlib.Path:
    """Expands "~" in a path.

    Raises:
      ValueError: if there is no such user, or the user has no home.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{os.fspath(path)}: that home is not known") from None
