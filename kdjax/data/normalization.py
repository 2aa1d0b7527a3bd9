"""Normalization of images, with the means and deviations of published networks.

All values are in units of pixels 0..255 and in the order of the channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Normalization(NamedTuple):
    """Mean and standard deviation of each color."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


#: Published values by their source.
PRESETS = {
    # clovaai/overhaul-distillation: measured on CIFAR-10, used on CIFAR-100.
    "overhaul": Normalization((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    # RepDistiller and mdistiller, CIFAR-100: 0.5071, 0.4867, 0.4408 and 0.2675, 0.2565,
    # 0.2761 of pixels from 0 to 1.
    "repdistiller": Normalization(
        (129.3105, 124.1085, 112.404), (68.2125, 65.4075, 70.4055)
    ),
    # sseung0703/KD_methods_with_TF, CIFAR-100 in the order blue, green, red.
    "mhgd": Normalization((112.4776, 124.1058, 129.3773), (70.4587, 65.4312, 68.2094)),
    # torchvision, ImageNet: 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225.
    "imagenet": Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}


def normalize(
    image: jax.Array, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
    """Returns (image - mean) / std, float32 [B, H, W, 3].

    Args:
      image: uint8 [B, H, W, 3].
      mean: of each color, in units of pixels 0..255.
      std: of each color, in units of pixels 0..255.
    """
    mean = np.asarray(mean, np.float32)[None, None, None]
    std = np.asarray(std, np.float32)[None, None, None]
    return (image.astype(jnp.float32) - mean) / std
