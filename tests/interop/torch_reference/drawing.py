"""Weights and images that both sides draw alike, from names, shapes and NumPy alone."""

import zlib
from collections.abc import Mapping

import numpy as np


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Draws a PyTorch state dict: arrays in float32, by the name of each alone.

    Kernels are normal with variance 2 / fan-in. Scales of batch norms lie in 0.5..1.5,
    one in ten negative; offsets and running means are normal with 0.3, running
    variances lie in 0.5..2.
    """

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        rng = np.random.RandomState(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            return np.zeros((), np.int64)
        if name.endswith("running_var"):
            return rng.uniform(0.5, 2, shape)
        if len(shape) > 1:
            return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        if name.endswith("weight"):
            sign = np.where(rng.uniform(size=shape) < 0.1, -1, 1)
            return sign * rng.uniform(0.5, 1.5, shape)
        return 0.3 * rng.standard_normal(shape)

    drawn = {name: draw(name, tuple(shape)) for name, shape in shapes.items()}
    return {
        name: array if array.dtype == np.int64 else array.astype(np.float32)
        for name, array in drawn.items()
    }


def images(number: int, size: int) -> np.ndarray:
    """Draws normalized images, [B, 3, H, W] float32."""
    rng = np.random.RandomState(size)
    return rng.standard_normal((number, 3, size, size)).astype(np.float32)
