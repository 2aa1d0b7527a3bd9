"""Batches gathered from a split kept in device memory."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.data.pipeline.batches import EvalBatches, RawBatch, TrainBatches
from kdjax.data.split import Split


class _Order(NamedTuple):
    """The order of one epoch, as indices into the split.

    Attributes:
      full: indices of the S batches of the full size, [D, S, B].
      rest: indices of the last, smaller batch, [D, 1, B], or None.
    """

    full: jax.Array
    rest: jax.Array | None


class InMemoryTrainBatches(TrainBatches):
    """Yields the split and the order of an epoch; the step gathers its examples."""

    in_memory = True

    def __init__(
        self, split: Split, config: ml_collections.ConfigDict, *, mesh: Mesh, **kwargs
    ):
        """Plans the batches; arguments as for `TrainBatches`."""
        super().__init__(split, config, mesh=mesh, **kwargs)
        self._split = split
        # At the first batch, and once for all streams of the split.
        self._on_devices = functools.cache(
            lambda: jax.device_put(_in_rows(split), _replicated(mesh))
        )

    def batches(self, start: int, stop: int) -> Iterator[tuple[Split, jax.Array]]:
        devices = self._local_slice
        shuffle = _compile_shuffle(
            self.plan, devices.start, devices.stop, self._sharding
        )
        order = None
        for step in range(start, stop):
            epoch, step_in_epoch = divmod(step, self.plan.steps_per_epoch)
            if order is None or step_in_epoch == 0:
                order = shuffle(np.int32(epoch))
            indices = order.full if self.plan.is_full(step) else order.rest
            yield self._on_devices(), indices

    def shapes(self) -> tuple[Split, jax.ShapeDtypeStruct]:
        plan = self.plan
        # Blank images of one pixel in memory stay so.
        split = jax.eval_shape(
            _in_rows,
            Split(*(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in self._split)),
        )
        per_device = max(plan.full_steps, 1), plan.size(0) // plan.devices
        return split, jax.ShapeDtypeStruct((plan.devices, *per_device), jnp.int32)

    def _examples(
        self, replicated: Split, sharded: jax.Array, step: jax.Array
    ) -> RawBatch:
        # The rest has a single row, for the last step of an epoch.
        row = jnp.minimum(step % self.plan.steps_per_epoch, sharded.shape[0] - 1)
        return _gather(replicated, sharded[row], self.image_shape)


class InMemoryEvalBatches(EvalBatches):
    """Yields the split and the indices of each batch."""

    def __init__(
        self, split: Split, config: ml_collections.ConfigDict, *, mesh: Mesh, **kwargs
    ):
        """Puts the split on the devices; arguments as for `EvalBatches`."""
        super().__init__(split, config, mesh=mesh, **kwargs)
        self._on_devices = jax.device_put(_in_rows(split), _replicated(mesh))
        self._batches = jax.device_put(
            list(zip(self._index, self._mask, strict=True)), self._sharding
        )

    def __iter__(self) -> Iterator[tuple[Split, Any]]:
        for sharded in self._batches:
            yield self._on_devices, sharded

    def _examples(self, replicated: Split, sharded: Any) -> tuple[RawBatch, jax.Array]:
        index, mask = sharded
        return _gather(replicated, index, self.split.image_shape), mask


def _in_rows(split: Split) -> Split:
    """Returns a split whose images are rows of pixels, [N, H W 3].

    A TPU pads the last axis of an array to 128: of images with three colors it would
    make a copy of several times their size in each step.
    """
    return Split(split.image.reshape(len(split.image), -1), split.label)


def _gather(
    split: Split, index: jax.Array, image_shape: tuple[int, int, int]
) -> RawBatch:
    """Gathers some examples of a split whose images are rows of pixels."""
    image = split.image[index].reshape(*index.shape, *image_shape)
    return RawBatch(image, split.label[index], index)


def _replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh.local_mesh, PartitionSpec())


@functools.lru_cache(maxsize=8)
def _compile_shuffle(
    plan: BatchPlan, start: int, stop: int, sharding: NamedSharding
) -> Callable[[np.int32], _Order]:
    """Compiles `_shuffle` for the devices from `start` to `stop - 1`."""
    return jax.jit(
        functools.partial(_shuffle, plan, slice(start, stop)), out_shardings=sharding
    )


def _shuffle(plan: BatchPlan, local_slice: slice, epoch: jax.Array) -> _Order:
    """Shuffles the indices of an epoch and deals them to this process's devices."""

    def deal(order: jax.Array, batch_size: int) -> jax.Array:
        per_device = (plan.devices, batch_size // plan.devices)
        order = order.reshape(order.size // batch_size, *per_device).swapaxes(0, 1)
        return order[local_slice]

    full, rest = jnp.split(plan.order(epoch), [plan.full_steps * plan.batch_size])
    return _Order(
        full=deal(full, plan.batch_size),
        rest=deal(rest, plan.rest_size) if plan.rest_size else None,
    )
