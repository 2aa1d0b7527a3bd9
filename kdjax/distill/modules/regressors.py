"""Regressors: 1x1 convolutions between two networks' features."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.losses.vid import MIN_VARIANCE
from kdjax.models import layers


class TeacherRegressors(nn.Module):
    """One 1x1 convolution a stage, on the teacher's features.

    Attributes:
      channels: the student's width at each stage; None passes a stage through.
      dtype: type of the computation.
    """

    channels: Sequence[int | None]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        """Maps [B, H, W, C_teacher] of each stage to [B, H, W, C_student]."""
        return [
            x
            if width is None
            else layers.convolution(
                width, 1, dtype=self.dtype, name=f"stage{number}_conv"
            )(x)
            for number, (x, width) in enumerate(
                zip(features, self.channels, strict=True), start=1
            )
        ]


class GaussianRegressor(nn.Module):
    """Three 1x1 convolutions with ReLUs between them, and a variance per channel.

    Source: VID; as in RepDistiller, `VIDLoss`.

    Attributes:
      channels: width of the result.
      variance: initial variance of every channel.
      dtype: type of the computation.
    """

    channels: int
    variance: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Maps [B, H, W, C_student] to a mean [B, H, W, C] and raw variances [C]."""
        for number in range(3):
            x = layers.convolution(
                self.channels,
                1,
                dtype=self.dtype,
                kernel_init=layers.torch_linear,
                name=f"conv{number + 1}",
            )(nn.relu(x) if number else x)
        # The inverse of softplus.
        start = math.log(math.expm1(self.variance - MIN_VARIANCE))
        raw = self.param(
            "raw_variance", nn.initializers.constant(start), (self.channels,)
        )
        return x, raw
