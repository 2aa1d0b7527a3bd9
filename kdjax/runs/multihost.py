"""Several processes, each with devices of its own, that train one network together.

Every process runs the same program on its share of each batch and holds all of the
state; the first one writes for all.
"""

import faulthandler
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

#: Seconds after which a silent process counts as dead.
_HEARTBEAT_S = 30


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the other processes; before the first use of a device.

    Args:
      coordinator: address and port of the first process; None for what the
        environment says, as on clusters that `jax.distributed` knows.
      processes: how many there are; likewise.
      process: the place of this one, from 0; likewise.
    """
    # When another process dies JAX says so and aborts this one. Its words are not to
    # drown in the stacks of all threads.
    faulthandler.disable()
    jax.distributed.initialize(
        coordinator, processes, process, heartbeat_timeout_seconds=_HEARTBEAT_S
    )


def is_multihost() -> bool:
    """Tells whether this process is one of several."""
    return jax.process_count() > 1


def is_main_process() -> bool:
    """Tells whether this process writes for all."""
    return jax.process_index() == 0


def local_slice(mesh: Mesh) -> slice:
    """Returns which places along the axis of devices are those of this process."""
    mine = [
        place
        for place, device in enumerate(mesh.devices.flat)
        if device.process_index == jax.process_index()
    ]
    return slice(mine[0], mine[-1] + 1)


def to_global(tree: Any) -> Any:
    """Sees arrays that each process holds whole as arrays of all processes."""
    return _placed(tree, jax.devices()) if is_multihost() else tree


def to_host_local(tree: Any) -> Any:
    """Sees arrays that all processes hold whole as arrays of this process."""
    return _placed(tree, jax.local_devices()) if is_multihost() else tree


def preemption_sync(steps_before: int) -> Callable[[int], bool]:
    """Returns a function of the step that tells all processes to stop at the same.

    SIGTERM to one of them is enough. No device is waited for: the processes agree on a
    step that none has reached.

    Args:
      steps_before: of earlier phases, since the steps must grow from call to call.
    """
    return lambda step: multihost_utils.reached_preemption_sync_point(
        steps_before + step
    )


def _placed(tree: Any, devices: list[jax.Device]) -> Any:
    sharding = NamedSharding(Mesh(np.asarray(devices), ("devices",)), PartitionSpec())

    def place(x):
        if isinstance(x, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        shards = [shard.data for shard in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, sharding, shards)

    return jax.tree.map(place, tree)
