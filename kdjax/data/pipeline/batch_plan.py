"""Which examples batch k holds: a function of (seed, k, global batch size) alone.

So there is no iterator state to save, and the examples are the same on any number of
devices, and on either pipeline.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax import rngs


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Cuts shuffled epochs into batches.

    Attributes:
      num_examples: in the training split.
      batch_size: over all devices.
      devices: that share each batch equally.
      drop_remainder: whether to leave out the last, smaller batch of an epoch.
      seed: of the run.
      stream: what is drawn is a function of the seed and this name.
    """

    num_examples: int
    batch_size: int
    devices: int
    drop_remainder: bool
    seed: int
    stream: str = ""

    def __post_init__(self):
        """Refuses batches that cannot be shared out.

        Raises:
          ValueError: if the devices cannot share a batch equally, or if the split is
            smaller than one batch and the smaller batch is dropped.
        """
        for name, size in (("batch", self.batch_size), ("last batch", self.rest_size)):
            if size % self.devices:
                raise ValueError(
                    f"batch_size={self.batch_size} gives a {name} of {size} images,"
                    f" which {self.devices} devices cannot share equally"
                    + ("; data.drop_remainder=True leaves it out" * (name != "batch"))
                )
        if not self.steps_per_epoch:
            raise ValueError(
                f"batch_size={self.batch_size} is more than the {self.num_examples} "
                "training images, and data.drop_remainder=True drops smaller batches"
            )

    @property
    def full_steps(self) -> int:
        """Batches of the full size in an epoch."""
        return self.num_examples // self.batch_size

    @property
    def rest_size(self) -> int:
        """Images in the last, smaller batch of an epoch; 0 if there is none."""
        return self.num_examples % self.batch_size * (not self.drop_remainder)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the smaller last one included."""
        return self.full_steps + bool(self.rest_size)

    def of_stream(self, name: str) -> "BatchPlan":
        """Returns the plan of the same split in another order, augmented otherwise."""
        return dataclasses.replace(self, stream=f"{name}/")

    def images_before(self, step: int) -> int:
        """Counts the images in all batches of the run before a step."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        per_epoch = self.full_steps * self.batch_size + self.rest_size
        return epochs * per_epoch + steps * self.batch_size

    def is_full(self, step: int) -> bool:
        """Tells whether the batch of a step has the full size."""
        return step % self.steps_per_epoch < self.full_steps

    def size(self, step: int) -> int:
        """Returns the images in the batch of a step, over all devices."""
        return self.batch_size if self.is_full(step) else self.rest_size

    def order(self, epoch: int | jax.Array) -> jax.Array:
        """Shuffles the places of all examples for an epoch, [N] int32."""
        key = self.key("order", epoch)
        return jax.random.permutation(key, self.num_examples).astype(jnp.int32)

    def key(self, name: str, step: int | jax.Array) -> jax.Array:
        """Returns the randomness of one use of it in a step, or an epoch."""
        return rngs.key(self.seed, f"{self.stream}{name}", step)
