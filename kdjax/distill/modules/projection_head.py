"""The projection head: from pooled features to what a contrastive task compares."""

from typing import Any

import flax.linen as nn
import jax

from kdjax.models import layers


class ProjectionHead(nn.Module):
    """Two linear layers with bias, of the features' width, and a ReLU between them.

    Source: xuguodong03/SSKD, `wrapper`.
    Differs from the original in: nothing.

    Attributes:
      dtype: type of the computation.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., C] to [..., C]."""

        def linear(name: str, x: jax.Array) -> jax.Array:
            width = x.shape[-1]
            return nn.Dense(
                width,
                kernel_init=layers.torch_linear,
                bias_init=layers.torch_bias(width),
                dtype=self.dtype,
                name=name,
            )(x)

        return linear("linear2", nn.relu(linear("linear1", x)))
