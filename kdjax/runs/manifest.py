"""Tells whether a folder still holds what was written into it.

A manifest lists every file with its size and checksum. Without it a file that was cut
short, by a full disk or a power failure, is found only while it is being read.
"""

import json
import pathlib
import zlib

_NAME = "files.json"
# Orbax writes them when it gives a folder its final name.
_LATER = ("_CHECKPOINT_METADATA", "commit_success.txt")
_CHUNK = 1 << 20


def write(folder: pathlib.Path) -> None:
    """Lists what a folder holds that is about to get its final name."""
    listed = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "crc32": _checksum(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).as_posix() not in _LATER
    }
    (folder / _NAME).write_text(json.dumps(listed) + "\n")


def fault(folder: pathlib.Path) -> str | None:
    """Compares a folder with its manifest.

    Returns:
      The first difference in words; None if all is there, or if there is no manifest.
    """
    if not (folder / _NAME).exists():
        return None
    try:
        listed = json.loads((folder / _NAME).read_text())
    except ValueError:
        return f"{_NAME} is cut short"
    for name, expected in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != expected["bytes"]:
            return f"{name} has {size} bytes of {expected['bytes']}"
        if _checksum(path) != expected["crc32"]:
            return f"{name} has another checksum"
    return None


def _checksum(path: pathlib.Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
