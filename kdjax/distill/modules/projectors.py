"""Projectors: linear layers from the student's pooled features to the teacher's."""

from typing import Any

import flax.linen as nn
import jax

from kdjax.models import layers


class Projectors(nn.Module):
    """One or more linear layers with bias, of the same features.

    Source: roymiles/ITRD, `Embed`, and chenyd7/PEFD, `Reg`.
    Differs from the original in: nothing.

    Attributes:
      width: the teacher's.
      count: of layers, which start from different random numbers.
      dtype: type of the computation.
    """

    width: int
    dtype: Any
    count: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Maps [B, C_student] to [B, width], once with each layer."""
        return [
            nn.Dense(
                self.width,
                kernel_init=layers.torch_linear,
                bias_init=layers.torch_bias(x.shape[-1]),
                dtype=self.dtype,
                name=f"linear{number + 1}",
            )(x)
            for number in range(self.count)
        ]
