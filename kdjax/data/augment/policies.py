"""Which operations change an image, and by how much: RandAugment and its kin.

Source: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced
Search Space" (NeurIPS 2020), and Müller and Hutter, "TrivialAugment: Tuning-free Yet
State-of-the-Art Data Augmentation" (ICCV 2021), both as in torchvision; and the strong
augmentation of Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with
Consistency and Confidence" (NeurIPS 2020), as in the code of MLKD.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.augment import operations

#: No operation.
NONE = "none"

#: Steps of a magnitude in RandAugment and TrivialAugment.
MAGNITUDES = 31

#: What FixMatch cuts out is filled with the mean color of ImageNet.
_FILLED = (125, 123, 114)


class Range(NamedTuple):
    """Values of an operation.

    Attributes:
      low: at the least magnitude.
      high: at the largest.
      signed: whether the value is as often below as above the one that changes nothing.
      neutral: that value.
    """

    low: float
    high: float
    signed: bool = False
    neutral: float = 0.0


def _ranges(**given: Range | float) -> Mapping[str, Range]:
    """Returns a range of each operation; those without a value have 0."""
    return {name: given.get(name, Range(0, 0)) for name in operations.NAMES}


def _torchvision(
    shear: float, translate: tuple[float, float], rotate: float, most: float, bits: int
) -> Mapping[str, Range]:
    """Returns ranges by their largest deviations; `translate` for width and height."""
    factor = Range(0, most, signed=True, neutral=1.0)
    return _ranges(
        shear_x=Range(0, shear, signed=True),
        shear_y=Range(0, shear, signed=True),
        translate_x=Range(0, translate[0], signed=True),
        translate_y=Range(0, translate[1], signed=True),
        rotate=Range(0, rotate, signed=True),
        brightness=factor,
        color=factor,
        contrast=factor,
        sharpness=factor,
        posterize=Range(8, bits),
        solarize=Range(255, 0),
    )


def _rand_augment(height: int, width: int) -> Mapping[str, Range]:
    part = 150 / 331
    return _torchvision(0.3, (part * width, part * height), 30, 0.9, 4)


def _trivial_augment(height: int, width: int) -> Mapping[str, Range]:
    return _torchvision(0.99, (32, 32), 135, 0.99, 2)


def _fixmatch(height: int, width: int) -> Mapping[str, Range]:
    factor = Range(0.05, 0.95)
    return _ranges(
        shear_x=Range(-0.3, 0.3),
        shear_y=Range(-0.3, 0.3),
        translate_x=Range(-0.3 * width, 0.3 * width),
        translate_y=Range(-0.3 * height, 0.3 * height),
        rotate=Range(-30, 30),
        brightness=factor,
        color=factor,
        contrast=factor,
        sharpness=factor,
        posterize=Range(4, 8),
        solarize=Range(0, 256),
    )


#: Ranges by the name of the policy, given height and width of the images.
_RANGES = {
    "rand_augment": _rand_augment,
    "trivial_augment": _trivial_augment,
    "fixmatch": _fixmatch,
}

#: Values of `data.augment` and `data.second_view`.
POLICIES = (NONE, *_RANGES)


def augment(
    key: jax.Array,
    image: jax.Array,
    *,
    policy: str,
    count: int,
    magnitude: int,
    index_in_batch: jax.Array,
    batch_size: int,
) -> jax.Array:
    """Applies random operations to each image.

    "rand_augment" applies some operations, drawn with replacement, of one magnitude;
    "trivial_augment" (its wide form) applies one of a random magnitude; "fixmatch"
    applies some of random values, and then fills a random square. Randomness depends on
    (key, index in batch, batch size), not on sharding.

    Differs from the original in: the random numbers; what `operations.apply` says.

    Args:
      key: of this step.
      image: uint8 [B, H, W, 3].
      policy: one of `POLICIES`; "none" returns the images as they are.
      count: operations of RandAugment and FixMatch.
      magnitude: of RandAugment, below `MAGNITUDES`.
      index_in_batch: of each example, over all devices, [B] int32.
      batch_size: over all devices.

    Returns:
      uint8 [B, H, W, 3].
    """
    if policy == NONE:
        return image
    if policy == "trivial_augment":
        count = 1
    draw = functools.partial(drawn, policy, magnitude, *image.shape[1:3])

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        def step(image: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            return operations.apply(image, *draw(key)), None

        keys = jax.random.split(key, count + 1)
        image, _ = jax.lax.scan(step, image, keys[:-1])
        return cutout(keys[-1], image) if policy == "fixmatch" else image

    keys = jax.random.split(key, batch_size)[index_in_batch]
    return jax.vmap(change)(keys, image)


def drawn(
    policy: str, magnitude: int, height: int, width: int, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draws an operation, int32, and its value, float32."""
    ranges = _RANGES[policy](height, width)
    low, high, signed, neutral = (
        jnp.asarray(np.float32(column)) for column in zip(*ranges.values(), strict=True)
    )
    which, size, sign = jax.random.split(key, 3)
    chosen = jax.random.randint(which, (), 0, len(operations.NAMES))
    if policy == "fixmatch":
        part = jax.random.uniform(size)
    else:
        last = MAGNITUDES - 1
        part = magnitude / last
        if policy == "trivial_augment":
            part = jax.random.randint(size, (), 0, MAGNITUDES) / last
    value = low[chosen] + (high[chosen] - low[chosen]) * part
    minus = (signed[chosen] > 0) & jax.random.bernoulli(sign)
    value = jnp.where(minus, -value, value)
    if policy != "fixmatch":
        # torchvision moves by whole pixels, and rounds the bits that are kept.
        moves = _is(chosen, "translate_x", "translate_y")
        value = jnp.where(moves, jnp.trunc(value), value)
        value = jnp.where(_is(chosen, "posterize"), jnp.round(value), value)
    return chosen, neutral[chosen] + value


def _is(chosen: jax.Array, *names: str) -> jax.Array:
    """Tells whether an operation is one of some."""
    return jnp.isin(chosen, jnp.asarray([operations.NAMES.index(n) for n in names]))


def cutout(key: jax.Array, image: jax.Array) -> jax.Array:
    """Fills a square around a random point, its side up to half the image's width.

    Source: `Cutout` and `CutoutAbs` of the code of MLKD, whose points are never in the
    first row or column: it calls `numpy.random.uniform(size)`, of [1, size].
    Differs from the original in: nothing but the random numbers.
    """
    height, width, _ = image.shape
    share, x, y = jax.random.uniform(key, (3,))
    side = 0.5 * share * width

    def span(center: jax.Array, size: int) -> jax.Array:
        start = jnp.floor(jnp.maximum(0, 1 + center * (size - 1) - side / 2))
        end = jnp.floor(jnp.minimum(size, start + side))
        place = jnp.arange(size)
        return (start <= place) & (place <= end)

    inside = span(y, height)[:, None] & span(x, width)[None]
    return jnp.where(inside[..., None], jnp.asarray(_FILLED, jnp.uint8), image)
