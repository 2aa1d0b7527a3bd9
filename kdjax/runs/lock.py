"""One living process to a work directory."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator

#: File of the lock; gone when a run has ended by itself.
NAME = "run.lock"


def ensure_unlocked(workdir: pathlib.Path) -> None:
    """Raises a ValueError if a living process holds the lock of a directory."""
    try:
        file = os.open(workdir / NAME, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        _lock(file, workdir)
    finally:
        os.close(file)


@contextlib.contextmanager
def acquire(workdir: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a directory, which it makes if need be.

    The system lets go of it when the process ends, however it ends, so that the lock
    of a dead process is free.

    Raises:
      ValueError: if another process holds it; says which.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / NAME
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(file, workdir)
        except ValueError:
            os.close(file)
            raise
        # Its last holder may have removed the file since it was opened here.
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            break
        os.close(file)
    holder = {"pid": os.getpid(), "host": socket.gethostname()}
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(holder).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _lock(file: int, workdir: pathlib.Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            holder = json.loads(os.pread(file, 1000, 0))
            who = f"process {holder['pid']} on {holder['host']}"
        except ValueError:
            # It has the lock and has not yet written who it is.
            who = "another process"
        raise ValueError(
            f"workdir={workdir} is in use by {who}: wait for it or end it"
        ) from None
