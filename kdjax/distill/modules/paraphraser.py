"""The paraphraser and the translator of factor transfer."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers


class Stack(nn.Module):
    """3x3 convolutions with biases, each followed by a leaky ReLU of slope 0.1.

    Attributes:
      channels: of the convolutions.
      batch_norm: whether a batch norm stands before each leaky ReLU. It always uses the
        statistics of the batch: a translator takes no part in an evaluation.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    channels: Sequence[int]
    batch_norm: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, channels[-1]]."""
        for number, width in enumerate(self.channels, start=1):
            x = layers.convolution(
                width,
                3,
                dtype=self.dtype,
                use_bias=True,
                kernel_init=layers.torch_linear,
                name=f"conv{number}",
            )(x)
            if self.batch_norm:
                x = layers.batch_norm(
                    True, axis_name=self.axis_name, dtype=self.dtype, name=f"bn{number}"
                )(x)
            x = nn.leaky_relu(x, 0.1)
        return x


class Paraphraser(nn.Module):
    """An auto-encoder of feature maps.

    Attributes:
      width: of the maps.
      factors: channels between encoder and decoder.
      dtype: type of the computation.
    """

    width: int
    factors: int
    dtype: Any = jnp.float32

    def setup(self):
        wide, narrow = self.width, self.factors
        self.encoder = Stack((wide, narrow, narrow), dtype=self.dtype)
        # A transposed convolution of stride 1 is a convolution, its kernel turned.
        self.decoder = Stack((narrow, wide, wide), dtype=self.dtype)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the factor, [B, H, W, factors], and `x` reconstructed from it."""
        factor = self.encoder(x)
        return factor, self.decoder(factor)
