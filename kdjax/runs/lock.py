"""Locks a work directory for one process."""

import contextlib
import json
import os
import pathlib
import socket
from collections.abc import Iterator

import filelock

from kdjax.runs import console, json_files

#: The locked file. It and the next are removed when a run ends normally.
NAME = "run.lock"

#: Names the process that holds the lock.
HOLDER = "run.lock.json"


def ensure_unlocked(workdir: pathlib.Path) -> None:
    """Raises a ValueError if a process holds the lock of a work directory."""
    if (workdir / NAME).exists():
        with _locked(workdir):
            pass


@contextlib.contextmanager
def acquire(workdir: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a work directory, which is created if necessary.

    The operating system releases the lock when the process ends, even if it is killed.

    Raises:
      ValueError: if another process holds the lock; names its id and host.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    holder = {"pid": os.getpid(), "host": socket.gethostname()}
    with _locked(workdir):
        try:
            with console.naming(workdir / HOLDER):
                (workdir / HOLDER).write_text(json.dumps(holder))
            yield
        finally:
            (workdir / HOLDER).unlink(missing_ok=True)
            # While the file is still locked: a process that waits for this one to let
            # go notices that the file is gone. Windows does not remove open files.
            with contextlib.suppress(PermissionError):
                (workdir / NAME).unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(workdir: pathlib.Path) -> Iterator[None]:
    lock = filelock.FileLock(workdir / NAME, blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(
            f"workdir={workdir} is in use by {_holder(workdir)}: wait for it or end it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _holder(workdir: pathlib.Path) -> str:
    try:
        holder = json_files.read(workdir / HOLDER, json_files.HOLDER)
    except (OSError, ValueError):
        holder = None
    if holder is None:
        # It has locked the directory but not written its name yet.
        return "another process"
    return f"process {holder['pid']} on {holder['host']}"
