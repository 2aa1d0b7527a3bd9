"""Checksums of a checkpoint's files.

Without them a file that a full disk or a power failure cut short is only found when it
is read.
"""

import json
import pathlib
import zlib
from collections.abc import Collection

from kdjax.runs import json_files

_NAME = "files.json"
_CHUNK_BYTES = 1 << 20


def write(folder: pathlib.Path, ignore: Collection[str] = ()) -> None:
    """Writes the size and checksum of every file in a folder into `files.json`.

    Args:
      folder: of the checkpoint.
      ignore: names of files at its top that may change later.
    """
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {
        name: {"bytes": path.stat().st_size, "crc32": _checksum(path)}
        for name, path in files.items()
        if name not in ignore
    }
    (folder / _NAME).write_text(json.dumps(manifest) + "\n")


def verify(folder: pathlib.Path) -> str | None:
    """Compares a folder with its manifest.

    Returns:
      The first difference, as text. None if there is none, or no manifest.
    """
    try:
        files = json_files.read(folder / _NAME, json_files.MANIFEST)
    except ValueError as error:
        return str(error).removeprefix(f"{folder}/")
    for name, stored in (files or {}).items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (found := path.stat().st_size) != stored["bytes"]:
            return f"{name} has {found} bytes of {stored['bytes']}"
        if _checksum(path) != stored["crc32"]:
            return f"{name} has another checksum"
    return None


def _checksum(path: pathlib.Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
