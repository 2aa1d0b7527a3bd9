"""Optimizers, learning rate schedules, accumulation of gradients, moving averages."""

from kdjax.optim.optimizers import build, build_sgd, check
from kdjax.optim.torch_sgd import restart, sgd
from kdjax.optim.transforms import clipped, kernels, scale_methods

__all__ = [
    "build",
    "build_sgd",
    "check",
    "clipped",
    "kernels",
    "restart",
    "scale_methods",
    "sgd",
]
