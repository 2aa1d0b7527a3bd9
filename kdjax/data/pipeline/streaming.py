"""Batches streamed from storage while the devices compute.

Host workers decode and crop the images; their random numbers are a function of the
seed, the step and the example's index in the batch. A batch is transferred while the
devices compute the previous one. Flips, padded crops and the normalization run on the
devices, as for data in memory: uint8 images are a quarter of the bytes to transfer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from absl import flags

from kdjax.data import augment
from kdjax.data.augment import crop_resize
from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.data.pipeline.batches import EvalBatches, RawBatch, TrainBatches
from kdjax.data.split import LazySplit

if TYPE_CHECKING:
    from PIL import Image

#: Batches that each worker process may prepare ahead.
_BUFFER = 2

#: A flag of Grain that it reads when it starts worker processes.
_GRAIN_FLAG = "grain_enable_multiprocess_worker_profiling"


class StreamingTrainBatches(TrainBatches):
    """Yields the decoded examples of each batch."""

    def __init__(self, split: LazySplit, *args: Any, **kwargs: Any):
        """Opens no image yet; arguments as for `TrainBatches`."""
        super().__init__(split, *args, **kwargs)
        self._split = split

    def batches(self, start: int, stop: int) -> Iterator[tuple[tuple[()], RawBatch]]:
        random_crop = self._config.crop == augment.RANDOM_RESIZED
        reader = _TrainReader(
            *(self._split, self.plan, self._local_slice, random_crop),
            second_view=self._second_view,
        )
        with _read(reader, range(start, stop), self._config.workers) as read:
            for examples in read:
                if self._config.workers:
                    # The memory shared with a worker is released with `examples`.
                    examples = jax.tree.map(np.array, examples)
                yield (), jax.device_put(examples, self._sharding)

    def shapes(self) -> tuple[tuple[()], RawBatch]:
        batch = self.plan.devices, self.plan.size(0) // self.plan.devices
        label = jax.ShapeDtypeStruct(batch, np.int32)
        image = jax.ShapeDtypeStruct((*batch, *self.image_shape), np.uint8)
        twice = self._second_view and self._config.crop == augment.RANDOM_RESIZED
        return (), RawBatch(image, label, label, image if twice else None)

    def _examples(
        self, replicated: Any, sharded: RawBatch, step: jax.Array
    ) -> RawBatch:
        return sharded


class StreamingEvalBatches(EvalBatches):
    """Yields the decoded examples of each batch, and its mask."""

    def __iter__(self) -> Iterator[tuple[tuple[()], tuple[RawBatch, jax.Array]]]:
        reader = _EvalReader(self.split, self._index, self._config.eval_crop)
        # Threads only: processes would have to be started for each evaluation.
        with _read(reader, range(len(self._index)), workers=0) as read:
            for sharded in zip(read, self._mask, strict=True):
                yield (), jax.device_put(sharded, self._sharding)

    def _examples(self, replicated: Any, sharded: Any) -> tuple[RawBatch, jax.Array]:
        return sharded


@dataclasses.dataclass(frozen=True)
class _TrainReader:
    """Reads this process's part of the batch of a step; pickled to the workers.

    Attributes:
      split: what to read.
      plan: which examples a batch holds.
      local_slice: the devices of this process.
      random_crop: whether to take a random crop of each image, or its center.
      second_view: whether to take two of them.
    """

    split: LazySplit
    plan: BatchPlan
    local_slice: slice
    random_crop: bool
    second_view: bool = False

    def __call__(self, step: int) -> RawBatch:
        plan = self.plan
        epoch, row = divmod(step, plan.steps_per_epoch)
        index = _order(plan, epoch)[row * plan.batch_size :][: plan.size(step)]
        in_batch = np.arange(len(index)).reshape(plan.devices, -1)[self.local_slice]
        size = self.split.image_shape[0]

        def center(image: Image.Image, index_in_batch: int) -> Image.Image:
            return self.split.center_crop_resize(image)

        def crop(name: str, image: Image.Image, index_in_batch: int) -> Image.Image:
            stream = zlib.crc32(f"{plan.stream}{name}".encode())
            rng = np.random.default_rng((plan.seed, stream, step, index_in_batch))
            return crop_resize.random_resized_crop(image, size, rng)

        crops = [center]
        if self.random_crop:
            names = ["part", "second/part"][: 1 + self.second_view]
            crops = [functools.partial(crop, name) for name in names]
        return _decode(self.split, index[in_batch], in_batch, *crops)


@dataclasses.dataclass(frozen=True)
class _EvalReader:
    """Reads this process's part of an evaluation batch.

    Attributes:
      split: what to read.
      index: of the examples in the split, [steps, D, B].
      fraction: of the center crop, see `crop_resize.center_crop_resize`.
    """

    split: LazySplit
    index: np.ndarray
    fraction: float

    def __call__(self, step: int) -> RawBatch:
        index = self.index[step]
        return _decode(
            self.split,
            index,
            index,
            lambda image, _: self.split.center_crop_resize(image, self.fraction),
        )


@functools.lru_cache(maxsize=2)
def _order(plan: BatchPlan, epoch: int) -> np.ndarray:
    return np.asarray(plan.order(epoch))


def _decode(
    split: LazySplit,
    index: np.ndarray,
    index_in_batch: np.ndarray,
    *crops: Callable[[Image.Image, int], Image.Image],
) -> RawBatch:
    """Decodes the examples of an array of indices, and crops each once or twice."""
    images = [np.empty((*index.shape, *split.image_shape), np.uint8) for _ in crops]
    label = np.empty(index.shape, np.int32)
    for at in np.ndindex(index.shape):
        decoded, label[at] = split.read(index[at])
        for image, crop in zip(images, crops, strict=True):
            image[at] = crop(decoded, int(index_in_batch[at]))
    image, *second = images
    return RawBatch(image, label, index.astype(np.int32), *second)


@contextlib.contextmanager
def _read(
    reader: Callable[[int], RawBatch], steps: range, workers: int
) -> Iterator[Iterator[RawBatch]]:
    """Reads batches ahead of time, in order.

    Args:
      reader: reads the batch of a step.
      steps: to read.
      workers: number of reader processes; 0 for threads of this one.
    """
    import grain  # Slow to import.

    if not flags.FLAGS.is_parsed() and _GRAIN_FLAG in flags.FLAGS:
        # Lets Grain read its default in a program that does not parse absl flags.
        flags.FLAGS[_GRAIN_FLAG].present = True
    threads = 1 if workers else os.cpu_count()
    dataset = (
        grain.MapDataset.range(steps.start, steps.stop)
        .map(reader)
        .to_iter_dataset(grain.ReadOptions(threads, prefetch_buffer_size=threads))
    )
    if workers:
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(workers, per_worker_buffer_size=_BUFFER),
            worker_init_fn=_init_worker,
        )
    try:
        with contextlib.closing(iter(dataset)) as read:
            yield read
    finally:
        if workers:
            # The last batch of each worker is shared memory in a cycle of references,
            # with Grain's StopIteration, which Python would report as leaked.
            gc.collect()


def _init_worker(_worker: int, _workers: int) -> None:
    """Configures a reader process."""
    # Accelerators belong to the parent; the order of the examples is computed here too.
    jax.config.update("jax_platforms", "cpu")
    # The parent receives these signals too, and decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
