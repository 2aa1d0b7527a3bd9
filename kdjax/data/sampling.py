"""Sampling of long-tailed data: how often an epoch draws the images of each class.

Other samplings than "uniform" draw with replacement, as
`torch.utils.data.WeightedRandomSampler` does with these weights of an image, where n is
the number of training images of its class:

- `balanced`: 1 / n, every class is drawn as often;
- `square_root`: 1 / sqrt(n), between that and the frequencies of the data, see Kang et
  al., "Decoupling Representation and Classifier for Long-Tailed Recognition" (ICLR
  2020);
- `class_weights`: `data.class_weights`, one number a class.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from kdjax.data.split import LazySplit, Split

UNIFORM, CLASS_WEIGHTS = "uniform", "class_weights"

#: Powers of n that a class is drawn in proportion to; q of Kang et al.
_POWERS = {"balanced": 0.0, "square_root": 0.5}

_IN_WORDS = {
    "balanced": "balanced sampling",
    "square_root": "square-root sampling",
    CLASS_WEIGHTS: "sampling by class weights",
}


@dataclasses.dataclass(frozen=True, eq=False)
class WeightedSampler:
    """Draws examples with replacement: first a class, then one of its examples.

    All numbers are integers, and the draws the same on any kind of device.

    Attributes:
      order: indices of the examples that may be drawn, sorted by class, int32 [N].
      start: where the examples of each class that may be drawn begin, int32 [K].
      size: number of these examples, int32 [K].
      threshold: cumulative probabilities of all these classes but the last, in units of
        2^-32, uint32 [K - 1].
    """

    order: np.ndarray
    start: np.ndarray
    size: np.ndarray
    threshold: np.ndarray

    def draw(self, key: jax.Array, number: int) -> jax.Array:
        """Draws the indices of some examples, int32 [number]."""
        order, start, size, threshold = map(
            jnp.asarray, (self.order, self.start, self.size, self.threshold)
        )
        class_key, example_key = jax.random.split(key)
        bits = jax.random.bits(class_key, (number,), jnp.uint32)
        drawn = jnp.searchsorted(threshold, bits, side="right")
        example = jax.random.randint(
            example_key, (number,), 0, size[drawn], dtype=jnp.int32
        )
        return order[start[drawn] + example]


def sampler(
    config: ml_collections.ConfigDict, split: Split | LazySplit
) -> WeightedSampler | None:
    """Returns what draws the examples of a training split; None for "uniform".

    Args:
      config: the `data` part of a configuration that `check` accepts.
      split: whose labels are read, unless the sampling is uniform.

    Raises:
      ValueError: if no example has a weight above 0.
    """
    if config.sampling == UNIFORM:
        return None
    label = split.label
    size = np.bincount(label, minlength=len(config.class_weights))
    if config.sampling == CLASS_WEIGHTS:
        # The products and sums of huge weights would not be finite.
        weight = size * (np.asarray(config.class_weights) / max(config.class_weights))
    else:
        weight = np.where(size > 0, size ** _POWERS[config.sampling], 0)
    if not weight.any():
        raise ValueError(
            "data.class_weights: no class with training images has a weight above 0"
        )
    chosen = weight > 0
    cumulative = np.cumsum(weight[chosen])
    threshold = np.round(cumulative[:-1] / cumulative[-1] * 2.0**32)
    order = np.argsort(label, kind="stable")
    return WeightedSampler(
        order=order[chosen[label[order]]].astype(np.int32),
        start=(np.cumsum(size[chosen]) - size[chosen]).astype(np.int32),
        size=size[chosen].astype(np.int32),
        threshold=np.minimum(threshold, 2.0**32 - 1).astype(np.uint32),
    )


def check(config: ml_collections.ConfigDict, num_classes: int) -> None:
    """Rejects weights that do not fit the sampling or the classes.

    Args:
      config: the `data` part of a configuration.
      num_classes: of the data set.

    Raises:
      ValueError: names the fields and their values.
    """
    weights = tuple(config.class_weights)
    if config.sampling != CLASS_WEIGHTS:
        if weights:
            raise ValueError(
                f"data.class_weights={weights} but data.sampling={config.sampling!r}:"
                f" only data.sampling={CLASS_WEIGHTS!r} uses them"
            )
        return
    if len(weights) != num_classes:
        raise ValueError(
            f"data.class_weights={weights} has {len(weights)} weights, and"
            f" data.name={config.name!r} has {num_classes} classes"
        )
    if not any(weights):
        raise ValueError(
            f"data.class_weights={weights} are all 0: no image would be drawn"
        )


def describe(config: ml_collections.ConfigDict) -> str:
    """Returns the sampling in words; "" if it is uniform."""
    return _IN_WORDS.get(config.sampling, "")
