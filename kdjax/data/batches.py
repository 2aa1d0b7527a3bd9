"""Batches cut from a split that lies on the device.

What batch k holds is a function of (seed, k, global batch size) alone: no iterator
state to save, and the same examples on any number of devices.
"""

import copy
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdjax import hosts, rngs
from kdjax.data import augment
from kdjax.data.split import Split


class Batch(NamedTuple):
    """One device's share of a batch.

    Attributes:
      image: normalised, [B, H, W, 3] float.
      label: class of each image, [B] int32.
      mask: 0 where an example only fills the batch, [B] float32; ones in training.
      index: place of each example in its split, [B] int32.
    """

    image: jax.Array
    label: jax.Array
    mask: jax.Array
    index: jax.Array


class Order(NamedTuple):
    """The examples of one epoch as places in the split.

    Attributes:
      full: [D, S, B] of batches of the full size, B one device's share.
      rest: the last, smaller batch in the same form with S = 1, or None.
    """

    full: jax.Array
    rest: jax.Array | None


class TrainBatches:
    """Shuffled and augmented batches of the training split.

    Attributes:
      split: the whole split on every device, uint8 images and int32 labels.
      steps_per_epoch: batches in an epoch, the smaller last one included.
    """

    def __init__(
        self,
        split: Split,
        config: ml_collections.ConfigDict,
        *,
        batch_size: int,
        seed: int,
        mesh: Mesh,
    ):
        """Puts the split on the devices.

        Args:
          split: training images and labels.
          config: the `data` part of a configuration.
          batch_size: over all devices.
          seed: of order and augmentation.
          mesh: the devices, one axis.

        Raises:
          ValueError: if a batch cannot be shared equally by the devices, or if the
            split is smaller than one batch and the smaller batch is dropped.
        """
        local = mesh.local_mesh
        self.split = jax.device_put(split, NamedSharding(local, PartitionSpec()))
        self._own_part = hosts.own_part(mesh)
        self._config = config
        self._seed = seed
        self._stream = ""
        self._devices = mesh.size
        (self._axis_name,) = mesh.axis_names
        self._num_examples = len(split.label)
        self._batch_size = batch_size
        self._full_steps, rest = divmod(self._num_examples, batch_size)
        self._rest_size = rest if config.remainder == "keep" else 0
        for name, size in (("batch", batch_size), ("last batch", self._rest_size)):
            if size % self._devices:
                raise ValueError(
                    f"batch_size={batch_size} gives a {name} of {size} images, which "
                    f"{self._devices} devices cannot share equally"
                    + ("; data.remainder='drop' leaves it out" * (name != "batch"))
                )
        self.steps_per_epoch = self._full_steps + bool(self._rest_size)
        if not self.steps_per_epoch:
            raise ValueError(
                f"batch_size={batch_size} is more than the {self._num_examples} "
                "training images, and data.remainder='drop' leaves out smaller batches"
            )
        self._order_sharding = NamedSharding(local, PartitionSpec(self._axis_name))

    def of_stream(self, name: str) -> "TrainBatches":
        """Returns the same split in another order, augmented otherwise.

        Args:
          name: of the stream; what it draws is a function of the seed and the name.
        """
        other = copy.copy(self)
        other._stream = f"{name}/"
        other.__dict__.pop("_shuffle", None)
        return other

    def images_before(self, step: int) -> int:
        """Counts the images in all batches of the run before a step."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        per_epoch = self._full_steps * self._batch_size + self._rest_size
        return epochs * per_epoch + steps * self._batch_size

    def is_full(self, step: int) -> bool:
        """Tells whether the batch of a step has the full size."""
        return step % self.steps_per_epoch < self._full_steps

    def size(self, step: int) -> int:
        """Returns the images in the batch of a step, over all devices."""
        return self._batch_size if self.is_full(step) else self._rest_size

    def order(self, epoch: int) -> Order:
        """Shuffles the split for an epoch, on the devices."""
        return self._shuffle(np.int32(epoch))

    @functools.cached_property
    def _shuffle(self):
        return jax.jit(self._shuffle_epoch, out_shardings=self._order_sharding)

    def _shuffle_epoch(self, epoch: jax.Array) -> Order:
        key = rngs.key(self._seed, f"{self._stream}order", epoch)
        order = jax.random.permutation(key, self._num_examples).astype(jnp.int32)
        full, rest = jnp.split(order, [self._full_steps * self._batch_size])
        return Order(
            full=self._share(full, self._batch_size),
            rest=self._share(rest, self._rest_size) if self._rest_size else None,
        )

    def _share(self, order: jax.Array, batch_size: int) -> jax.Array:
        """Shares places out to devices, [D, S, B]; returns the part of this process."""
        share = (self._devices, batch_size // self._devices)
        order = order.reshape(order.size // batch_size, *share).swapaxes(0, 1)
        return order[self._own_part]

    def take(self, split: Split, order: jax.Array, step: jax.Array) -> Batch:
        """Cuts this device's share of a step's batch; called inside the step.

        Args:
          split: `self.split`, as an argument of the program.
          order: this device's part of `Order.full` or `Order.rest`, [S, B].
          step: of the whole run.
        """
        # The rest has one row, which is the last step of an epoch.
        row = jnp.minimum(step % self.steps_per_epoch, order.shape[0] - 1)
        index = order[row]
        share = index.shape[0]
        position = jnp.arange(share)
        if self._devices > 1:
            position += share * jax.lax.axis_index(self._axis_name)
        image = augment.random_crop_flip(
            rngs.key(self._seed, f"{self._stream}augment", step),
            split.image[index],
            position=position,
            batch_size=share * self._devices,
            padding=self._config.padding,
            mode=self._config.padding_mode,
            flip=self._config.flip,
            crop=self._config.crop,
        )
        image = augment.normalise(image, mean=self._config.mean, std=self._config.std)
        return Batch(image, split.label[index], jnp.ones(share), index)


class WholeSplit:
    """Every example of a split once, in order, the last batch filled up and masked.

    Attributes:
      split: the whole split on every device.
      batches: places in the split and masks, [D, B] int32 and float32 each; filled up
        with place 0 under mask 0.
      num_examples: N.
    """

    def __init__(
        self,
        split: Split,
        config: ml_collections.ConfigDict,
        *,
        batch_size: int,
        mesh: Mesh,
    ):
        """Puts the split on the devices; arguments as for `TrainBatches`."""
        local = mesh.local_mesh
        self.split = jax.device_put(split, NamedSharding(local, PartitionSpec()))
        self.num_examples = len(split.label)
        self._config = config
        steps = -(-self.num_examples // batch_size)
        place = np.arange(steps * batch_size).reshape(steps, mesh.size, -1)
        mask = (place < self.num_examples).astype(np.float32)
        index = np.where(mask, place, 0).astype(np.int32)
        shared_out = NamedSharding(local, PartitionSpec(*mesh.axis_names))
        own = hosts.own_part(mesh)
        batches = list(zip(index[:, own], mask[:, own], strict=True))
        self.batches = jax.device_put(batches, shared_out)

    def take(self, split: Split, index: jax.Array, mask: jax.Array) -> Batch:
        """Cuts one device's share; called inside an evaluation step."""
        image = augment.normalise(
            split.image[index], mean=self._config.mean, std=self._config.std
        )
        return Batch(image, split.label[index], mask, index)
