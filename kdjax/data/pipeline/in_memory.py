"""Batches cut from a split that lies on the devices."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax.data.pipeline import batches
from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.data.pipeline.batches import Fed, RawBatch
from kdjax.data.split import Split


class _Order(NamedTuple):
    """The examples of one epoch as places in the split.

    Attributes:
      full: [D, S, B] of batches of the full size, B one device's share.
      rest: the last, smaller batch in the same form with S = 1, or None.
    """

    full: jax.Array
    rest: jax.Array | None


class TrainBatches(batches.TrainBatches):
    """Feeds the split and the order of an epoch; the step gathers its examples."""

    def __init__(
        self, split: Split, config: ml_collections.ConfigDict, *, mesh: Mesh, **kwargs
    ):
        """Puts the split on the devices; arguments as for any pipeline."""
        super().__init__(split, config, mesh=mesh, **kwargs)
        local = mesh.local_mesh
        self._split = jax.device_put(split, NamedSharding(local, PartitionSpec()))

    def feed(self, first: int, last: int) -> Iterator[Fed]:
        shuffle = jax.jit(
            functools.partial(_shuffle, self.plan, self._local_slice),
            out_shardings=self._shared_out,
        )
        order = None
        for step in range(first, last):
            epoch, begun = divmod(step, self.plan.steps_per_epoch)
            if order is None or not begun:
                order = shuffle(np.int32(epoch))
            yield Fed(
                self._split, order.full if self.plan.is_full(step) else order.rest
            )

    def _examples(self, shared: Split, own: jax.Array, step: jax.Array) -> RawBatch:
        # The rest has one row, which is the last step of an epoch.
        row = jnp.minimum(step % self.plan.steps_per_epoch, own.shape[0] - 1)
        index = own[row]
        return RawBatch(shared.image[index], shared.label[index], index)


class EvalBatches(batches.EvalBatches):
    """Feeds the split and the places of each batch."""

    def __init__(
        self, split: Split, config: ml_collections.ConfigDict, *, mesh: Mesh, **kwargs
    ):
        """Puts the split on the devices; arguments as for any pipeline."""
        super().__init__(split, config, mesh=mesh, **kwargs)
        local = mesh.local_mesh
        self._on_devices = jax.device_put(split, NamedSharding(local, PartitionSpec()))
        self._batches = jax.device_put(
            list(zip(self._index, self._mask, strict=True)), self._shared_out
        )

    def feed(self) -> Iterator[Fed]:
        for own in self._batches:
            yield Fed(self._on_devices, own)

    def _examples(self, shared: Split, own: Any) -> tuple[RawBatch, jax.Array]:
        index, mask = own
        return RawBatch(shared.image[index], shared.label[index], index), mask


def _shuffle(plan: BatchPlan, local_slice: slice, epoch: jax.Array) -> _Order:
    """Shares the places of an epoch out to the devices of this process."""

    def share(order: jax.Array, batch_size: int) -> jax.Array:
        part = (plan.devices, batch_size // plan.devices)
        order = order.reshape(order.size // batch_size, *part).swapaxes(0, 1)
        return order[local_slice]

    full, rest = jnp.split(plan.order(epoch), [plan.full_steps * plan.batch_size])
    return _Order(
        full=share(full, plan.batch_size),
        rest=share(rest, plan.rest_size) if plan.rest_size else None,
    )
