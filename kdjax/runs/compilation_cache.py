"""Where compiled programs are kept from one process to the next.

What lies there is executed: nobody else may write it.
"""

import os
import pathlib
import stat
from typing import Any

from kdjax.runs import console

#: Within the user's home.
_FOLDER = (".cache", "kdjax", "compilation")


def set_up(jax_config: Any) -> None:
    """Sets JAX's cache, unless the user did; a line says why there is none.

    Args:
      jax_config: `jax.config`.
    """
    given = jax_config.jax_compilation_cache_dir
    try:
        if given:
            _check_given(given)
        else:
            jax_config.update("jax_compilation_cache_dir", str(_in_home()))
    except OSError as error:
        jax_config.update("jax_compilation_cache_dir", None)
        where = f"{error.filename}: " if error.filename else ""
        console.warn(f"compiled programs are not cached: {where}{error.strerror}")


def _check_given(folder: str) -> None:
    """Raises an OSError if everyone can write what would be executed."""
    path = pathlib.Path(folder)
    # A URL, as of a bucket, has its own permissions.
    if "://" not in folder and path.exists() and path.stat().st_mode & stat.S_IWOTH:
        raise PermissionError(0, "everyone can write what lies there", folder)


def _in_home() -> pathlib.Path:
    """Returns the folder in the user's home, for the user alone.

    Raises:
      OSError: if there is no such folder, or another user can write it.
    """
    try:
        home = pathlib.Path.home()
    except RuntimeError:
        raise OSError(0, "the user has no home") from None
    if not home.is_absolute() or not home.is_dir():
        raise NotADirectoryError(0, "the home is no folder", str(home))
    folder = home.joinpath(*_FOLDER)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise PermissionError(0, "it belongs to another user", str(folder))
    for path in (folder, folder.parent):
        if path.stat().st_mode & stat.S_IWOTH:
            raise PermissionError(0, "everyone can write what lies there", str(path))
    if not os.access(folder, os.W_OK):
        raise PermissionError(0, "it cannot be written", str(folder))
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder
