"""Claims a work directory for one run."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import ml_collections

from kdjax.runs import lock, multihost, workdirs


@contextlib.contextmanager
def claimed(
    workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> Iterator[dict[str, Any] | None]:
    """Locks the work directory of a run, unless the run is finished.

    If the context ends before anything was written, what it created is removed.

    Yields:
      The result of a finished run; None if there is something to train, as when the
      config of a finished run has more epochs now.

    Raises:
      ValueError: if the directory belongs to another config, holds something else, was
        trained for more epochs, or is locked by another process.
    """
    workdirs.check_config(workdir, config)
    result = workdirs.read_result(workdir)
    goes_on = workdirs.goes_on(workdir, config)
    if not multihost.is_main_process() or (result is not None and not goes_on):
        yield None if goes_on else result
        return
    created = [path for path in (workdir, *workdir.parents) if not path.exists()]
    try:
        with lock.acquire(workdir):
            # Another process may have finished the run in the meantime.
            workdirs.check_config(workdir, config)
            goes_on = workdirs.goes_on(workdir, config)
            yield None if goes_on else workdirs.read_result(workdir)
    finally:
        with contextlib.suppress(OSError):
            for path in created:
                path.rmdir()  # Fails if it holds anything.
