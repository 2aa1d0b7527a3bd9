"""Training and evaluation batches, from memory or streamed from storage.

What fits lies on the devices (`in_memory`); the rest stays where it is stored, and is
read on the host while the devices work (`streaming`). Either pipeline feeds the loop
and lets the compiled step take one device's share:

    for shared, own in batches.feed(first, last):
        ...
        batch = batches.take(shared, own, step)
"""

import abc
import copy
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax.data import augment, normalization
from kdjax.data.augment import erasing, mixup
from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.data.split import LazySplit, Split
from kdjax.runs import multihost


class Batch(NamedTuple):
    """One device's share of a batch.

    Attributes:
      image: normalized, [B, H, W, 3] float.
      label: class of each image, [B] int32.
      mask: 0 where an example only fills the batch, [B] float32; ones in training.
      index: place of each example in its split, [B] int32.
      mixed: what was mixed into the images; None if they are as they were.
    """

    image: jax.Array
    label: jax.Array
    mask: jax.Array
    index: jax.Array
    mixed: mixup.Mixed | None = None


class RawBatch(NamedTuple):
    """One device's share of the examples of a batch, as they are stored.

    Attributes:
      image: uint8 [B, H, W, 3].
      label: int32 [B].
      index: place of each example in its split, int32 [B].
    """

    image: jax.Array
    label: jax.Array
    index: jax.Array


class Fed(NamedTuple):
    """What a pipeline gives the step for one batch.

    Attributes:
      shared: the same on all devices.
      own: of each device its own, along the first axis.
    """

    shared: Any
    own: Any


class TrainBatches(abc.ABC):
    """Shuffled and augmented batches of the training split.

    Attributes:
      plan: which examples batch k holds.
      image_shape: [H, W, 3].
    """

    def __init__(
        self,
        split: Split | LazySplit,
        config: ml_collections.ConfigDict,
        *,
        batch_size: int,
        seed: int,
        mesh: Mesh,
    ):
        """Plans the batches.

        Args:
          split: training images and labels.
          config: the `data` part of a configuration.
          batch_size: over all devices.
          seed: of order and augmentation.
          mesh: the devices, one axis.

        Raises:
          ValueError: if the split cannot be cut into such batches.
        """
        self.image_shape = split.image_shape
        self.plan = BatchPlan(
            split.num_examples, batch_size, mesh.size, config.drop_remainder, seed
        )
        self._config = config
        (self._axis_name,) = mesh.axis_names
        self._local_slice = multihost.local_slice(mesh)
        self._shared_out = _shared_out(mesh)

    def of_stream(self, name: str) -> Self:
        """Returns the same split in another order, augmented otherwise.

        Args:
          name: of the stream; what it draws is a function of the seed and the name.
        """
        other = copy.copy(self)
        other.plan = self.plan.of_stream(name)
        return other

    @abc.abstractmethod
    def feed(self, first: int, last: int) -> Iterator[Fed]:
        """Yields what the steps from `first` to before `last` take in.

        Close it if it is left before its end.
        """

    @abc.abstractmethod
    def _examples(self, shared: Any, own: Any, step: jax.Array) -> RawBatch:
        """Cuts this device's share of a step's examples; called inside the step."""

    def take(self, shared: Any, own: Any, step: jax.Array) -> Batch:
        """Makes this device's share of a step's batch; called inside the step.

        Args:
          shared: as fed.
          own: this device's part of what was fed.
          step: of the whole run.
        """
        examples = self._examples(shared, own, step)
        share = len(examples.label)
        position = jnp.arange(share)
        if self.plan.devices > 1:
            position += share * jax.lax.axis_index(self._axis_name)
        whole_batch = {"position": position, "batch_size": share * self.plan.devices}
        config = self._config
        image = augment.random_crop_flip(
            self.plan.key("augment", step),
            examples.image,
            padding=config.padding,
            mode=config.padding_mode,
            flip=config.flip,
            crop=config.crop,
            **whole_batch,
        )
        image = normalization.normalize(image, mean=config.mean, std=config.std)
        image = erasing.random_erasing(
            self.plan.key("erasing", step),
            image,
            probability=config.random_erasing,
            **whole_batch,
        )
        image, mixed = mixup.mix(
            self.plan.key("mixup", step),
            image,
            examples.label,
            alpha=config.mixup,
            axis_name=self._axis_name if self.plan.devices > 1 else None,
            **whole_batch,
        )
        return Batch(image, examples.label, jnp.ones(share), examples.index, mixed)


class EvalBatches(abc.ABC):
    """Every example of a split once, in order, the last batch filled up and masked.

    Attributes:
      split: as given.
      num_examples: N.
    """

    def __init__(
        self,
        split: Split | LazySplit,
        config: ml_collections.ConfigDict,
        *,
        batch_size: int,
        mesh: Mesh,
    ):
        """Plans the batches; arguments as for `TrainBatches`."""
        self.split = split
        self.num_examples = split.num_examples
        self._config = config
        self._shared_out = _shared_out(mesh)
        steps = -(-self.num_examples // batch_size)
        place = np.arange(steps * batch_size).reshape(steps, mesh.size, -1)
        # Of [steps, D, B], this process's D; filled up with place 0 under mask 0.
        place = place[:, multihost.local_slice(mesh)]
        self._mask = (place < self.num_examples).astype(np.float32)
        self._index = np.where(self._mask, place, 0).astype(np.int32)

    @abc.abstractmethod
    def feed(self) -> Iterator[Fed]:
        """Yields what the evaluation of each batch takes in."""

    @abc.abstractmethod
    def _examples(self, shared: Any, own: Any) -> tuple[RawBatch, jax.Array]:
        """Cuts one device's share, and its mask; called inside the evaluation."""

    def take(self, shared: Any, own: Any) -> Batch:
        """Makes one device's share of a batch; called inside the evaluation."""
        examples, mask = self._examples(shared, own)
        image = normalization.normalize(
            examples.image, mean=self._config.mean, std=self._config.std
        )
        return Batch(image, examples.label, mask, examples.index)


def _shared_out(mesh: Mesh) -> NamedSharding:
    """Gives each device of this process its own along the first axis."""
    return NamedSharding(mesh.local_mesh, PartitionSpec(*mesh.axis_names))
