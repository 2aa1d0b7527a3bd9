"""Which examples each batch holds: a function of (seed, step, global batch size).

There is no iterator state to save, and the examples are the same on any number of
devices and with either pipeline.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax import rngs
from kdjax.data.sampling import WeightedSampler


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Cuts shuffled or sampled epochs into batches.

    Attributes:
      num_examples: in the training split.
      batch_size: over all devices.
      devices: number of devices, each with an equal part of a batch.
      drop_remainder: whether to leave out the last, smaller batch of an epoch.
      seed: of the run.
      stream: name of a stream of random numbers; it and the seed determine the draws.
      sampler: draws the examples of an epoch; None to shuffle all of them.
    """

    num_examples: int
    batch_size: int
    devices: int
    drop_remainder: bool
    seed: int
    stream: str = ""
    sampler: WeightedSampler | None = None

    def __post_init__(self) -> None:
        """Rejects batch sizes that do not fit.

        Raises:
          ValueError: if a batch is not divisible by the number of devices, or if the
            split is smaller than one batch and smaller batches are dropped.
        """
        for name, size in (("batch", self.batch_size), ("last batch", self.rest_size)):
            if size % self.devices:
                raise ValueError(
                    f"batch_size={self.batch_size} gives a {name} of {size} images,"
                    f" which is not divisible by the {self.devices} devices"
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
        """Batches in an epoch, including the smaller last one."""
        return self.full_steps + bool(self.rest_size)

    def with_stream(self, name: str) -> "BatchPlan":
        """Returns the plan of the same split with other random numbers."""
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
        """Returns the number of images in the batch of a step, over all devices."""
        return self.batch_size if self.is_full(step) else self.rest_size

    def order(self, epoch: int | jax.Array) -> jax.Array:
        """Shuffles or samples the indices of the examples for an epoch, [N] int32."""
        key = self.key("order", epoch)
        if self.sampler is not None:
            return self.sampler.draw(key, self.num_examples)
        return jax.random.permutation(key, self.num_examples).astype(jnp.int32)

    def key(self, name: str, step: int | jax.Array) -> jax.Array:
        """Returns the random key for one use in a step, or in an epoch."""
        return rngs.key(self.seed, f"{self.stream}{name}", step)
