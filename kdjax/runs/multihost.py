"""Multi-host training.

Every process runs the same program on its slice of each batch and holds the full
state; the first process writes the files.
"""

import itertools
import socket
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax.runs import console

#: Seconds in which all processes must have started.
_START_S = 300

#: Seconds without a heartbeat after which a process counts as dead.
_HEARTBEAT_S = 30


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Connects to the other processes; must precede the first use of a device.

    Args:
      coordinator: address and port of the first process. None reads it, and the next
        two, from the environment of a cluster that `jax.distributed` supports.
      processes: number of processes.
      process: index of this one, from 0.

    Raises:
      ValueError: if the arguments fit no such group, or nobody answers at the address,
        for which JAX would end the process.
    """
    if coordinator is not None:
        _check(coordinator, processes, process)
        if process:
            with console.progress(f"kdjax: waiting for process 0 at {coordinator}"):
                _wait_for(coordinator)
    jax.distributed.initialize(
        coordinator,
        processes,
        process,
        initialization_timeout=_START_S,
        heartbeat_timeout_seconds=_HEARTBEAT_S,
    )


def _check(coordinator: str, processes: int | None, process: int | None) -> None:
    """Rejects an address, a number or an index that cannot be."""
    host, _, port = coordinator.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and int(port) < 2**16):
        raise ValueError(f"--coordinator={coordinator!r} is not of the form HOST:PORT")
    if processes is None or process is None:
        raise ValueError("--coordinator needs --processes and --process, too")
    if not 0 <= process < processes:
        raise ValueError(
            f"--process={process} is no index among --processes={processes}, from 0"
        )


def _wait_for(coordinator: str, seconds: float = _START_S) -> None:
    """Waits until somebody listens at an address.

    Raises:
      ValueError: if the host is not known, or nobody does in time.
    """
    host, _, port = coordinator.rpartition(":")
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except socket.gaierror as error:
            reason = error.strerror
            break
        except OSError as error:
            reason = f"{error.strerror or error} for {seconds:g} s"
        if time.monotonic() > end:
            break
        time.sleep(min(1.0, seconds))
    raise ValueError(f"--coordinator={coordinator}: no process 0 there: {reason}")


def is_multihost() -> bool:
    """Returns True if several processes train together."""
    return jax.process_count() > 1


def is_main_process() -> bool:
    """Returns True in the process that writes the files."""
    return jax.process_index() == 0


def local_slice(mesh: Mesh) -> slice:
    """Returns the slice of the device axis owned by this process."""
    local = [
        index
        for index, device in enumerate(mesh.devices.flat)
        if device.process_index == jax.process_index()
    ]
    return slice(local[0], local[-1] + 1)


def to_global(tree: Any) -> Any:
    """Converts host-local replicated arrays to global arrays."""
    return _replicated(tree, jax.devices()) if is_multihost() else tree


def to_host_local(tree: Any) -> Any:
    """Converts global replicated arrays to host-local arrays."""
    return _replicated(tree, jax.local_devices()) if is_multihost() else tree


def preemption_sync() -> Callable[[], bool]:
    """Returns a function that is True in all processes at the same call of it.

    SIGTERM to one process is enough. It does not wait for devices: the processes agree
    on a call that none has reached, so that each must make the same calls.
    """
    # JAX stops at the one number that they agree on, which must not be skipped.
    numbers = itertools.count()
    return lambda: multihost_utils.reached_preemption_sync_point(next(numbers))


def _replicated(tree: Any, devices: list[jax.Device]) -> Any:
    sharding = NamedSharding(Mesh(np.asarray(devices), ("devices",)), PartitionSpec())

    def convert(x):
        if isinstance(x, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        shards = [shard.data for shard in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, sharding, shards)

    return jax.tree.map(convert, tree)
