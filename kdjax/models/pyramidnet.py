"""Pyramidal residual networks, `pyramidnet_<depth>_<alpha>`.

Source: Han, Kim and Kim, "Deep Pyramidal Residual Networks" (CVPR 2017), in the form of
the overhaul paper's code (`models/PyramidNet.py`): from block to block the channels
grow by the same amount, alpha in all.

The depth alone does not determine the blocks: 110 is 6n+2, as basic blocks need, and
9n+2, as bottlenecks do. The depths in the paper's tables mean the blocks that they have
there, 110 basic ones and 164, 200, 236 and 272 bottlenecks. All others need a suffix,
`_basic` or `_bottleneck`, which these may have too.
"""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers, limits
from kdjax.models.features import Features

#: Blocks by the depth of a published network.
_PUBLISHED = {
    110: "basic",
    164: "bottleneck",
    200: "bottleneck",
    236: "bottleneck",
    272: "bottleneck",
}

#: Convolutions of the three groups that a block in each adds to the depth.
_CONVOLUTIONS = {"basic": 6, "bottleneck": 9}


def _shortcut(x: jax.Array, channels: int, stride: int) -> jax.Array:
    """Averages [B, H, W, C] over strides and appends channels of zeros."""
    if stride > 1:
        # An odd last row or column is averaged by itself, as in the original. Flax
        # counts the entries of a window in float32.
        dtype = x.dtype
        x = nn.avg_pool(
            x, (stride,) * 2, (stride,) * 2, padding="SAME", count_include_pad=False
        ).astype(dtype)
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))


class Block(nn.Module):
    """BN, 3x3, BN, ReLU, 3x3, BN plus the shortcut.

    As a bottleneck BN, 1x1, BN, ReLU, 3x3, BN, ReLU, 1x1 with four times the channels,
    BN. The first 3x3 has the stride. No ReLU before the first convolution nor after the
    sum.
    """

    channels: int
    stride: int
    bottleneck: bool
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Returns the block's output, and what its first ReLU gets or, basic, bn1's."""
        conv, norm = layers.conv_and_norm(self, train)
        inner, stride = self.channels, self.stride
        if self.bottleneck:
            convolutions = ((inner, 1, 1), (inner, 3, stride), (4 * inner, 1, 1))
        else:
            convolutions = ((inner, 3, stride), (inner, 3, 1))
        normalized = [norm(name="bn1")(x)]
        for index, convolution in enumerate(convolutions, start=1):
            y = normalized[-1]
            if index > 1:
                y = nn.relu(y)
            y = conv(*convolution, name=f"conv{index}")(y)
            normalized.append(norm(name=f"bn{index + 1}")(y))
        y = normalized[-1]
        return y + _shortcut(x, y.shape[-1], stride), normalized[int(self.bottleneck)]


class PyramidNet(nn.Module):
    """A pyramidal residual network of three groups, n blocks in each.

    Features: the first two `pre` are taken in the first blocks of groups 2 and 3, where
    the map still has the size of the group before: in bottlenecks the output of the
    second batch norm, in basic blocks that of the first. The third is the output of the
    final batch norm. `post` are their ReLUs, and `block` the bare sums that end the
    groups, with the channels of the last block; `stem` is the first convolution with
    its batch norm. Margins come from the same batch norms.

    Differs from the original in: the margins of basic blocks, which it takes from their
    second batch norms, whose channels are not those of the features; and a batch norm
    whose output is a feature runs once a step, where the authors call it, and those
    before it in the block, a second time, which moves the running statistics twice.

    Attributes:
      blocks: their number in each group.
      alpha: channels that the last block has over the stem's 16.
      bottleneck: whether the blocks are bottlenecks.
      num_classes: size of the logits.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    blocks: int
    alpha: int
    bottleneck: bool
    num_classes: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = (
        "pyramidnet_<depth>_<alpha>[_basic or _bottleneck] with depth 6n+2 or 9n+2, "
        f"the suffix only left out for depths {', '.join(map(str, _PUBLISHED))}"
    )
    STANDARD = ("pyramidnet_110_84", "pyramidnet_200_240")

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, Any] | None:
        """Reads blocks and alpha from a network's name; None if it is another's."""
        match = re.fullmatch(r"pyramidnet_(\d+)_(\d+)(?:_(basic|bottleneck))?", name)
        if not match or image_size != 32:
            return None
        depth, alpha = int(match[1]), int(match[2])
        kind = match[3] or _PUBLISHED.get(depth)
        if kind is None or alpha < 1:
            return None
        blocks, rest = divmod(depth - 2, _CONVOLUTIONS[kind])
        if blocks < 1 or rest:
            return None
        limits.check(name, depth, alpha=alpha)
        return {"blocks": blocks, "alpha": alpha, "bottleneck": kind == "bottleneck"}

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` the path of the batch norm it comes out of."""
        norm = "bn2" if self.bottleneck else "bn1"
        return (("group2_block0", norm), ("group3_block0", norm), ("bn",))

    def torch_modules(self, path: tuple[str, ...]) -> dict[str, str]:
        """Names the module at a path in the layout of the overhaul paper's code."""
        if len(path) == 1:
            names = {"stem": "conv1", "stem_bn": "bn1", "bn": "bn_final"}
            return {"overhaul": names.get(path[0], "fc")}
        group, block = re.fullmatch(r"group(\d)_block(\d+)", path[0]).groups()
        return {"overhaul": f"layer{group}.{block}.{path[1]}"}

    def widths(self) -> list[int]:
        """Returns the channels of all blocks, bottom to top, before they are fourfold.

        These are 16 plus equal steps, rounded.
        """
        # Added up step by step, as the authors do: the last bit decides where to round.
        width, widths = 16.0, []
        for _ in range(3 * self.blocks):
            width += self.alpha / (3 * self.blocks)
            widths.append(round(width))
        return widths

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""
        settings = dict(dtype=self.dtype, axis_name=self.axis_name)
        x = layers.convolution(16, 3, dtype=self.dtype, name="stem")(image)
        x = layers.batch_norm(train, name="stem_bn", **settings)(x)
        stem, pre, sums = x, [], []
        for index, width in enumerate(self.widths()):
            group, block = index // self.blocks + 1, index % self.blocks
            first = group > 1 and block == 0
            x, normalized = Block(
                width,
                stride=2 if first else 1,
                bottleneck=self.bottleneck,
                name=f"group{group}_block{block}",
                **settings,
            )(x, train)
            if first:
                pre.append(normalized)
            if block == self.blocks - 1:
                sums.append(x)
        pre.append(layers.batch_norm(train, name="bn", **settings)(x))
        post = tuple(map(nn.relu, pre))
        pooled = layers.global_average(post[-1])
        logits = layers.classifier(
            self.num_classes,
            bias_init=layers.torch_bias(pooled.shape[-1]),
            dtype=pooled.dtype,
        )(pooled)
        return logits, Features(stem, post, tuple(pre), pooled, tuple(sums))
