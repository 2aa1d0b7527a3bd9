"""Convolution, norm and linear layers as the papers' PyTorch networks have them.

What Flax does by default differs: its SAME padding is asymmetric at stride 2, its
he_normal is truncated and counts fan-in, and its Dense starts from lecun_normal.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

#: N(0, sqrt(2 / (height * width * out))), not truncated.
kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

#: U(-1/sqrt(in), 1/sqrt(in)): how PyTorch fills a linear layer.
torch_linear = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

#: PyTorch fills a convolution like a linear layer when nothing else is said.
torch_convolution = torch_linear


def torch_bias(fan_in: int) -> Initializer:
    """Returns U(-1/sqrt(in), 1/sqrt(in)): how PyTorch fills a linear layer's bias."""
    bound = fan_in**-0.5

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


def convolution(
    channels: int,
    size: int,
    stride: int = 1,
    *,
    dtype: Any,
    name: str | None = None,
    groups: int = 1,
    use_bias: bool = False,
    kernel_init: Initializer = kaiming_fan_out,
) -> nn.Conv:
    """Returns a convolution that pads `size // 2` on every side.

    Args:
      channels: output channels.
      size: height and width of the kernel.
      stride: step in both directions.
      dtype: type of the computation; the kernel itself stays float32.
      name: name of the layer among the variables.
      groups: number of groups of channels; as many as channels makes a depthwise
        convolution, whose fan-out is counted over all of them.
      use_bias: add a bias, which starts at 0.
      kernel_init: what the kernel starts from.
    """
    return nn.Conv(
        channels,
        (size, size),
        (stride, stride),
        padding=((size // 2, size // 2),) * 2,
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=kernel_init,
        dtype=dtype,
        name=name,
    )


def batch_norm(
    train: bool,
    *,
    axis_name: str | None,
    dtype: Any,
    fast_variance: bool = True,
    name: str | None = None,
) -> nn.BatchNorm:
    """Returns a batch norm with PyTorch's epsilon and momentum.

    Differs from the original in: the running variance follows the biased variance of
    a batch, where PyTorch stores the unbiased one (larger by n / (n - 1), n the
    values of a channel in the batch).

    Args:
      train: normalize with the statistics of the batch and move the running ones.
      axis_name: device axis over which the statistics of a batch are averaged; None
        keeps them on each device.
      dtype: type of the output; statistics are float32 or wider.
      fast_variance: take the variance in one pass, E[x^2] - E[x]^2. Of few values in
        float32 it can be off by 1e-4.
      name: name of the layer among the variables.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        axis_name=axis_name,
        use_fast_variance=fast_variance,
        name=name,
    )


def conv_and_norm(
    module: nn.Module, train: bool, **conv: Any
) -> tuple[Callable[..., nn.Conv], Callable[..., nn.BatchNorm]]:
    """Returns `convolution` and `batch_norm` with the settings of a module.

    Args:
      module: has `dtype` and `axis_name`.
      train: as for `batch_norm`.
      **conv: further settings of all convolutions.
    """
    return (
        functools.partial(convolution, dtype=module.dtype, **conv),
        functools.partial(
            batch_norm, train, axis_name=module.axis_name, dtype=module.dtype
        ),
    )


def layer_norm(*, dtype: Any, name: str | None = None) -> nn.LayerNorm:
    """Returns a layer norm with the epsilon of vision transformers and ConvNeXts.

    Args:
      dtype: type of the output; statistics are float32 or wider.
      name: name of the layer among the variables.
    """
    # The variance in two passes, as in PyTorch: of large sums it is as exact.
    return nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, dtype=dtype, name=name)


def gelu(x: jax.Array) -> jax.Array:
    """Returns x times the normal distribution function of x, not approximated."""
    return x * (1 + jax.lax.erf(x * 0.5**0.5)) / 2


def classifier(
    num_classes: int,
    *,
    dtype: Any,
    kernel_init: Initializer = torch_linear,
    bias_init: Initializer = nn.initializers.zeros,
) -> nn.Dense:
    """Returns the linear layer `classifier`, from pooled features to logits."""
    return nn.Dense(
        num_classes,
        kernel_init=kernel_init,
        bias_init=bias_init,
        dtype=dtype,
        name="classifier",
    )


def global_average(x):
    """Averages [B, H, W, C] over space, in float32 or wider, to [B, C]."""
    return jnp.mean(x, axis=(1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
