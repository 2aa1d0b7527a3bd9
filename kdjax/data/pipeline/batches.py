"""Training and evaluation batches, in memory or streamed.

A pipeline has two halves. The host half yields, for each step, a pair of arrays placed
on the devices: `replicated` is the same on all of them, `sharded` has a leading axis of
devices. The device half, `make_batch`, runs inside the compiled step and turns the pair
into the augmented and normalized batch of one device:

    for replicated, sharded in train.batches(start, stop):
        state = train_step(state, replicated, sharded)  # Calls train.make_batch.

The subclasses are in `in_memory` and `streaming`.
"""

import abc
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax.data import augment, normalization, sampling
from kdjax.data.augment import color_jitter, cutmix, erasing, mixup, policies
from kdjax.data.pipeline.batch_plan import BatchPlan
from kdjax.data.split import LazySplit, Split
from kdjax.runs import multihost


class Batch(NamedTuple):
    """The batch of one device, ready for the network.

    Attributes:
      image: normalized, [B, H, W, 3] float.
      label: class of each image, [B] int32.
      mask: 0 for the padding of the last evaluation batch, else 1, [B] float32.
      index: of each example in its split, [B] int32.
      mixed: labels and weight of the images mixed in; None without.
      second_image: a second view of each image, normalized; None unless it is asked
        for.
    """

    image: jax.Array
    label: jax.Array
    mask: jax.Array
    index: jax.Array
    mixed: mixup.Mixed | None = None
    second_image: jax.Array | None = None


class RawBatch(NamedTuple):
    """The batch of one device before augmentation.

    Attributes:
      image: uint8 [B, H, W, 3].
      label: int32 [B].
      index: of each example in its split, int32 [B].
      second_image: the same images in other crops, uint8 [B, H, W, 3]; None where the
        device crops them.
    """

    image: jax.Array
    label: jax.Array
    index: jax.Array
    second_image: jax.Array | None = None


class TrainBatches(abc.ABC):
    """Shuffled and augmented batches of the training split.

    Attributes:
      in_memory: whether the split is in the memory of the devices, where all full
        batches of an epoch are made of the same arguments.
      plan: which examples the batch of each step holds.
      image_shape: [H, W, 3].
    """

    in_memory: ClassVar[bool] = False

    def __init__(
        self,
        split: Split | LazySplit,
        config: ml_collections.ConfigDict,
        *,
        batch_size: int,
        seed: int,
        mesh: Mesh,
        second_view: bool = False,
    ):
        """Plans the batches.

        Args:
          split: training images and labels.
          config: the `data` part of a configuration.
          batch_size: over all devices.
          seed: of the order and the augmentation.
          mesh: the devices, one axis.
          second_view: whether batches have a second view of each image.

        Raises:
          ValueError: if the batch size does not fit the split or the devices, or no
            example can be drawn.
        """
        self.image_shape = split.image_shape
        self.plan = BatchPlan(
            split.num_examples,
            batch_size,
            mesh.size,
            config.drop_remainder,
            seed,
            sampler=sampling.sampler(config, split),
        )
        self._config = config
        self._second_view = second_view
        (self._axis_name,) = mesh.axis_names
        self._local_slice = multihost.local_slice(mesh)
        self._sharding = _sharding(mesh)

    def with_stream(self, name: str) -> Self:
        """Returns the same split with another order and other augmentation.

        Args:
          name: of the stream of random numbers, which depends on it and the seed.
        """
        other = copy.copy(self)
        other.plan = self.plan.with_stream(name)
        return other

    def with_seed(self, seed: int) -> Self:
        """Returns the same split with the order and the augmentation of a seed."""
        other = copy.copy(self)
        other.plan = dataclasses.replace(self.plan, seed=seed)
        return other

    @abc.abstractmethod
    def batches(self, start: int, stop: int) -> Iterator[tuple[Any, Any]]:
        """Yields `(replicated, sharded)` for the steps from `start` to `stop - 1`.

        Close the iterator if it is not exhausted.
        """

    @abc.abstractmethod
    def shapes(self) -> tuple[Any, Any]:
        """Returns shapes and types of what `batches` yields for the first step.

        Those of `sharded` have the devices of all processes.
        """

    @abc.abstractmethod
    def _examples(self, replicated: Any, sharded: Any, step: jax.Array) -> RawBatch:
        """Returns this device's examples of a step; called inside the step."""

    def make_batch(self, replicated: Any, sharded: Any, step: jax.Array) -> Batch:
        """Makes this device's batch; called inside the compiled step.

        Args:
          replicated: as yielded by `batches`.
          sharded: this device's part of what `batches` yielded.
          step: counted from the start of the phase.
        """
        examples = self._examples(replicated, sharded, step)
        local_size = len(examples.label)
        index_in_batch = jnp.arange(local_size)
        if self.plan.devices > 1:
            index_in_batch += local_size * jax.lax.axis_index(self._axis_name)
        in_batch = {
            "index_in_batch": index_in_batch,
            "batch_size": local_size * self.plan.devices,
        }
        config = self._config
        image = self._view("", config.augment, examples.image, step, in_batch)
        second = None
        if self._second_view:
            second = examples.second_image
            second = examples.image if second is None else second
            second = self._view("second/", config.second_view, second, step, in_batch)
        image = erasing.random_erasing(
            self.plan.key("erasing", step),
            image,
            probability=config.random_erasing,
            **in_batch,
        )
        image, mixed = cutmix.mix(
            self.plan.key("mixup", step),
            image,
            examples.label,
            alpha=config.cutmix,
            probability=config.cutmix_probability,
            mixup_alpha=config.mixup,
            axis_name=self._axis_name if self.plan.devices > 1 else None,
            **in_batch,
        )
        mask = jnp.ones(local_size)
        return Batch(image, examples.label, mask, examples.index, mixed, second)

    def _view(
        self,
        stream: str,
        policy: str,
        image: jax.Array,
        step: jax.Array,
        in_batch: dict[str, Any],
    ) -> jax.Array:
        """Crops, flips, changes and normalizes images.

        Args:
          stream: begins the names of the random numbers.
          policy: of the operations, one of `policies.POLICIES`.
          image: uint8 [B, H, W, 3].
          step: counted from the start of the phase.
          in_batch: place of each example in the batch, and its size.
        """
        config = self._config
        image = augment.random_crop_flip(
            self.plan.key(f"{stream}augment", step),
            image,
            padding=config.padding,
            mode=config.padding_mode,
            flip=config.flip,
            crop=config.crop,
            **in_batch,
        )
        image = policies.augment(
            self.plan.key(f"{stream}policy", step),
            image,
            policy=policy,
            count=config.augment_count,
            magnitude=config.augment_magnitude,
            **in_batch,
        )
        image = color_jitter.color_jitter(
            self.plan.key(f"{stream}color_jitter", step),
            image,
            strength=tuple(config.color_jitter),
            **in_batch,
        )
        return normalization.normalize(image, mean=config.mean, std=config.std)


class EvalBatches(abc.ABC):
    """Every example of a split once, in order; the last batch is padded and masked.

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
        self._sharding = _sharding(mesh)
        steps = -(-self.num_examples // batch_size)
        index = np.arange(steps * batch_size).reshape(steps, mesh.size, -1)
        # [steps, D, B] with the devices of this process; index 0 is the padding.
        index = index[:, multihost.local_slice(mesh)]
        self._mask = (index < self.num_examples).astype(np.float32)
        self._index = np.where(self._mask, index, 0).astype(np.int32)

    @abc.abstractmethod
    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yields `(replicated, sharded)` for each batch."""

    @abc.abstractmethod
    def _examples(self, replicated: Any, sharded: Any) -> tuple[RawBatch, jax.Array]:
        """Returns one device's examples and their mask; called inside the step."""

    def make_batch(self, replicated: Any, sharded: Any) -> Batch:
        """Makes one device's batch; called inside the compiled evaluation step.

        Args:
          replicated: as yielded by iteration.
          sharded: this device's part of what iteration yielded.
        """
        examples, mask = self._examples(replicated, sharded)
        image = normalization.normalize(
            examples.image, mean=self._config.mean, std=self._config.std
        )
        return Batch(image, examples.label, mask, examples.index)


def _sharding(mesh: Mesh) -> NamedSharding:
    """Shards the first axis over the devices of this process."""
    return NamedSharding(mesh.local_mesh, PartitionSpec(*mesh.axis_names))
