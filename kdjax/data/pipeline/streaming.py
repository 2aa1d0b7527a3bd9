"""Batches of images that are read while the devices work on those before.

Workers on the host decode the images and cut out their part; what is drawn for it is a
function of the seed, the step and the example's position in the batch. A batch travels
to the devices while they compute the one before. Flips, small crops and the
normalization are left to them, as for images that lie there: the bytes that travel are
a quarter of the normalized images.
"""

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np
from absl import flags
from PIL import Image

from kdjax.data import augment
from kdjax.data.augment import crop_resize
from kdjax.data.pipeline import batches
from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.data.pipeline.batches import Fed, RawBatch
from kdjax.data.split import LazySplit

#: Batches of each worker that may wait for their turn.
_AHEAD = 2


class TrainBatches(batches.TrainBatches):
    """Feeds the decoded examples of each batch."""

    def __init__(self, split: LazySplit, *args, **kwargs):
        """Opens no image yet; arguments as for any pipeline."""
        super().__init__(split, *args, **kwargs)
        self._split = split

    def feed(self, first: int, last: int) -> Iterator[Fed]:
        random_part = self._config.crop == augment.RANDOM_RESIZED
        reader = _Shuffled(self._split, self.plan, self._local_slice, random_part)
        with _read(reader, range(first, last), self._config.workers) as read:
            for examples in read:
                if self._config.workers:
                    # What they share with this process lasts no longer than `examples`.
                    examples = jax.tree.map(np.array, examples)
                yield Fed((), jax.device_put(examples, self._shared_out))

    def _examples(self, shared: Any, own: RawBatch, step: jax.Array) -> RawBatch:
        return own


class EvalBatches(batches.EvalBatches):
    """Feeds the decoded examples of each batch, and its mask."""

    def feed(self) -> Iterator[Fed]:
        reader = _InOrder(self.split, self._index, self._config.eval_crop)
        # By threads alone: processes would have to be started for each evaluation.
        with _read(reader, range(len(self._index)), workers=0) as read:
            for own in zip(read, self._mask, strict=True):
                yield Fed((), jax.device_put(own, self._shared_out))

    def _examples(self, shared: Any, own: Any) -> tuple[RawBatch, jax.Array]:
        return own


@dataclasses.dataclass(frozen=True)
class _Shuffled:
    """Reads this process's part of the batch of a step; goes to the workers.

    Attributes:
      split: what to read.
      plan: which examples a batch holds.
      local_slice: which devices are those of this process.
      random_part: whether a random part of each image is cut out, or its center.
    """

    split: LazySplit
    plan: BatchPlan
    local_slice: slice
    random_part: bool

    def __call__(self, step: int) -> RawBatch:
        plan = self.plan
        epoch, row = divmod(step, plan.steps_per_epoch)
        places = _order(plan, epoch)[row * plan.batch_size :][: plan.size(step)]
        position = np.arange(len(places)).reshape(plan.devices, -1)[self.local_slice]
        size = self.split.image_shape[0]

        def frame(image: Image.Image, position: int) -> Image.Image:
            if not self.random_part:
                return self.split.framed(image)
            draw = plan.seed, zlib.crc32(f"{plan.stream}part".encode()), step, position
            return crop_resize.random_resized(image, size, np.random.default_rng(draw))

        return _decoded(self.split, places[position], position, frame)


@dataclasses.dataclass(frozen=True)
class _InOrder:
    """Reads this process's part of a batch of a whole split; goes to the workers.

    Attributes:
      split: what to read.
      index: places in the split, [steps, D, B].
      part: of the shorter side that is looked at.
    """

    split: LazySplit
    index: np.ndarray
    part: float

    def __call__(self, step: int) -> RawBatch:
        index = self.index[step]
        return _decoded(
            self.split,
            index,
            index,
            lambda image, _: self.split.framed(image, self.part),
        )


@functools.lru_cache(maxsize=2)
def _order(plan: BatchPlan, epoch: int) -> np.ndarray:
    return np.asarray(plan.order(epoch))


def _decoded(
    split: LazySplit,
    index: np.ndarray,
    position: np.ndarray,
    frame: Callable[[Image.Image, int], Image.Image],
) -> RawBatch:
    """Decodes and frames the examples of an array of places."""
    image = np.empty((*index.shape, *split.image_shape), np.uint8)
    label = np.empty(index.shape, np.int32)
    for at in np.ndindex(index.shape):
        decoded, label[at] = split.read(index[at])
        image[at] = frame(decoded, int(position[at]))
    return RawBatch(image, label, index.astype(np.int32))


@contextlib.contextmanager
def _read(
    reader: Callable[[int], RawBatch], steps: range, workers: int
) -> Iterator[Iterator[RawBatch]]:
    """Reads batches ahead, in their order.

    Args:
      reader: of one batch.
      steps: that it is called with.
      workers: processes that call it; 0 for threads of this one.
    """
    if not flags.FLAGS.is_parsed():
        # Grain has flags of its own and asks for them.
        flags.FLAGS.mark_as_parsed()
    threads = 1 if workers else os.cpu_count()
    dataset = (
        grain.MapDataset.range(steps.start, steps.stop)
        .map(reader)
        .to_iter_dataset(grain.ReadOptions(threads, prefetch_buffer_size=threads))
    )
    if workers:
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(workers, per_worker_buffer_size=_AHEAD),
            worker_init_fn=_begin_work,
        )
    with contextlib.closing(iter(dataset)) as read:
        yield read


def _begin_work(_worker: int, _workers: int) -> None:
    """Settles a process that only reads."""
    # The accelerators are the parent's; the order of the examples is computed here too.
    jax.config.update("jax_platforms", "cpu")
    # The parent decides when to stop, and is sent these as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
