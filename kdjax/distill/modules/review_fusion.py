"""The fusion of a student's stages by ReviewKD."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kdjax.models import layers

#: Upper bound of the width at which stages are fused.
_MOST_CHANNELS = 512

#: U(-sqrt(3 / in), sqrt(3 / in)): `kaiming_uniform_(a=1)`.
_kaiming_uniform = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")


def nearest(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resizes [B, H, W, C] by nearest-neighbor interpolation.

    Source: PyTorch's `interpolate(mode="nearest")`, which takes floor(i H / H').
    Differs from the original in: nothing.
    """
    for axis, (before, after) in enumerate(zip(x.shape[1:3], size, strict=True), 1):
        if after % before == 0:
            x = jnp.repeat(x, after // before, axis)
        else:
            x = jnp.take(x, np.arange(after) * before // after, axis, mode="clip")
    return x


class ReviewFusion(nn.Module):
    """Fuses a student's maps from the top down.

    Source: the paper's attention based fusion; original: `ABF` and `ReviewKD.forward`.
    Differs from the original in: sizes are those of the maps, where the original has a
    table of pairs.

    Attributes:
      channels: of the teacher's maps, bottom to top.
      sizes: height and width of the teacher's maps.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    channels: Sequence[int]
    sizes: Sequence[tuple[int, int]]
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> list[jax.Array]:
        """Maps [B, H, W, C_student], bottom to top, to the teacher's shapes."""
        width = min(_MOST_CHANNELS, maps[-1].shape[-1])
        found, above = [], None
        for index in reversed(range(len(maps))):
            level = f"level{index + 1}"
            x = self._layer(width, 1, f"{level}_in")(maps[index])
            if above is not None:
                above = nearest(above, x.shape[1:3])
                both = jnp.concatenate([x, above], axis=-1)
                gate = nn.sigmoid(
                    nn.Conv(
                        2,
                        (1, 1),
                        kernel_init=layers.torch_linear,
                        bias_init=layers.torch_bias(2 * width),
                        dtype=self.dtype,
                        name=f"{level}_gate",
                    )(both)
                )
                x = x * gate[..., :1] + above * gate[..., 1:]
            above = nearest(x, self.sizes[index])
            found.append(self._layer(self.channels[index], 3, f"{level}_out")(above))
        return found[::-1]

    def _layer(self, width: int, size: int, name: str):
        return nn.Sequential(
            [
                layers.convolution(
                    width,
                    size,
                    dtype=self.dtype,
                    kernel_init=_kaiming_uniform,
                    name=f"{name}_conv",
                ),
                layers.batch_norm(
                    True,
                    axis_name=self.axis_name,
                    dtype=self.dtype,
                    name=f"{name}_bn",
                ),
            ]
        )
