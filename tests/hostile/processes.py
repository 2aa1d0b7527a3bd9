"""Processes of the command that trains, started to be treated badly."""

import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[2]


def start(
    config: str,
    *arguments: str,
    cache: pathlib.Path,
    log: pathlib.Path,
    count: int = 1,
) -> list[subprocess.Popen]:
    """Starts a run.

    Args:
      config: configuration file and what it is made for.
      arguments: of the command.
      cache: folder of compiled programs.
      log: file that gets what the processes say to stderr.
      count: number of processes that train together, of one device each.
    """
    together = ()
    if count > 1:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        together = (
            "--multihost",
            f"--processes={count}",
            f"--coordinator=localhost:{port}",
        )
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-m", "kdjax.main", f"--config={config}", *arguments]
    with log.open("w") as errors:
        return [
            subprocess.Popen(
                [*command, *together, *[f"--process={index}"] * (count > 1)],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            for index in range(count)
        ]


def finish(running: Sequence[subprocess.Popen]) -> None:
    """Waits for the end of processes; each must have ended well."""
    statuses = [process.wait() for process in running]
    assert not any(statuses), f"{running[0].args}: statuses {statuses}"
