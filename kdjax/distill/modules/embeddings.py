"""Linear embeddings of both networks' pooled features to one width."""

from typing import Any

import flax.linen as nn
import jax

from kdjax.models import layers


class Embeddings(nn.Module):
    """A linear layer with bias for the student's and one for the teacher's features.

    Source: HobbitLong/RepDistiller, `LinearEmbed` and the linear part of `Embed`.
    Differs from the original in: nothing.

    Attributes:
      width: of both embeddings.
      dtype: type of the computation.
    """

    width: int
    dtype: Any

    @nn.compact
    def __call__(
        self, student: jax.Array, teacher: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Maps [B, C_student] and [B, C_teacher] to [B, width] each."""

        def embedded(name: str, x: jax.Array) -> jax.Array:
            return nn.Dense(
                self.width,
                kernel_init=layers.torch_linear,
                bias_init=layers.torch_bias(x.shape[-1]),
                dtype=self.dtype,
                name=name,
            )(x)

        return embedded("student", student), embedded("teacher", teacher)
