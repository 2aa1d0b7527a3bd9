"""Residual networks for 32x32 images, `resnet<depth>`.

Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section
4.2, in the form of the overhaul paper's code (`models/ResNet.py`): basic blocks,
projection shortcuts, the last ReLU of a block moved to the entry of the next one so
that the sums before it can be distilled.
"""

import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers
from kdjax.models.features import Features


class Block(nn.Module):
    """ReLU, then 3x3, BN, ReLU, 3x3, BN plus the shortcut; no ReLU after the sum."""

    channels: int
    stride: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(layers.convolution, dtype=self.dtype)
        norm = functools.partial(
            layers.batch_norm, train, axis_name=self.axis_name, dtype=self.dtype
        )
        x = nn.relu(x)
        y = conv(self.channels, 3, self.stride, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y))
        y = norm(name="bn2")(conv(self.channels, 3, name="conv2")(y))
        if x.shape[-1] != self.channels:
            x = conv(self.channels, 1, self.stride, name="shortcut")(x)
            x = norm(name="shortcut_bn")(x)
        return x + y


class ResNet(nn.Module):
    """A residual network of depth 6n+2 with groups of 16, 32 and 64 channels.

    Features: `pre` are the sums that end the three groups, `post` their ReLUs. The
    margin of a sum is taken from the batch norm of its last residual branch alone, as
    the authors do, although the shortcut is added after it.

    Attributes:
      depth: convolutions in sequence plus the classifier; 6n+2.
      num_classes: size of the logits.
      dtype: type of the computation.
      axis_name: device axis of synchronised batch norms, or None.
    """

    depth: int
    num_classes: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = "resnet<depth> with depth 6n+2"

    @classmethod
    def parse(cls, name: str) -> dict[str, int] | None:
        """Reads the depth from a network's name; None if it is another's."""
        match = re.fullmatch(r"resnet(\d+)", name)
        if not match:
            return None
        depth = int(match.group(1))
        return {"depth": depth} if depth >= 8 and (depth - 2) % 6 == 0 else None

    @property
    def _blocks(self) -> int:
        return (self.depth - 2) // 6

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` the path of the batch norm that gives its margin."""
        return tuple(
            (f"group{group}_block{self._blocks - 1}", "bn2") for group in (1, 2, 3)
        )

    def torch_module(self, path: tuple[str, ...]) -> str:
        """Returns what the overhaul paper's code calls the module at a path."""
        if len(path) == 1:
            return {"stem": "conv1", "stem_bn": "bn1", "classifier": "fc"}[path[0]]
        group, block = re.fullmatch(r"group(\d)_block(\d+)", path[0]).groups()
        shortcut = {"shortcut": "downsample.0", "shortcut_bn": "downsample.1"}
        return f"layer{group}.{block}.{shortcut.get(path[1], path[1])}"

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalised images: [B, K] logits and features."""
        settings = dict(dtype=self.dtype, axis_name=self.axis_name)
        x = layers.convolution(16, 3, dtype=self.dtype, name="stem")(image)
        x = layers.batch_norm(train, name="stem_bn", **settings)(x)
        pre = []
        for group in (1, 2, 3):
            for block in range(self._blocks):
                x = Block(
                    16 * 2 ** (group - 1),
                    stride=2 if block == 0 and group > 1 else 1,
                    name=f"group{group}_block{block}",
                    **settings,
                )(x, train)
            pre.append(x)
        post = tuple(map(nn.relu, pre))
        pooled = layers.global_average(post[-1])
        logits = nn.Dense(
            self.num_classes,
            kernel_init=layers.torch_linear,
            bias_init=_uniform_as_kernel,
            dtype=pooled.dtype,
            name="classifier",
        )(pooled)
        return logits, Features(post, tuple(pre), pooled)


def _uniform_as_kernel(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32):
    """Fills the classifier's bias with U(-1/8, 1/8): 1/sqrt of its 64 inputs."""
    return jax.random.uniform(key, shape, dtype, -1 / 8, 1 / 8)
