"""Wide residual networks, `wrn_<depth>_<widen>`.

Source: Zagoruyko and Komodakis, "Wide Residual Networks" (BMVC 2016), in the form of
the overhaul paper's code (`models/WideResNet.py`): pre-activation blocks, by default
without dropout.
With `@64`, for 64x64 images, the stem has stride 2, as on the slides of Lee and Song,
"Graph-based Knowledge Distillation by Multi-head Attention Network" (BMVC 2019), which
also show dropout inside the blocks.
"""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers, limits
from kdjax.models.features import Features


class Block(nn.Module):
    """BN, ReLU, 3x3, BN, ReLU, 3x3 and a shortcut.

    The shortcut carries the raw input where the shape stays and a 1x1 convolution of
    the *activated* input where it changes.
    """

    channels: int
    stride: int
    dtype: Any
    axis_name: str | None
    dropout: float = 0.0
    stochastic_depth: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Returns the block's output and its first batch norm's, before the ReLU."""
        conv, norm = layers.conv_and_norm(self, train)
        normalized = norm(name="bn1")(x)
        activated = nn.relu(normalized)
        y = conv(self.channels, 3, self.stride, name="conv1")(activated)
        y = nn.relu(norm(name="bn2")(y))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = conv(self.channels, 3, name="conv2")(y)
        # One draw an example.
        y = nn.Dropout(
            self.stochastic_depth, broadcast_dims=(1, 2, 3), deterministic=not train
        )(y)
        if x.shape[-1] != self.channels:
            x = conv(self.channels, 1, self.stride, name="shortcut")(activated)
        return x + y, normalized


class WideResNet(nn.Module):
    """A wide residual network of depth 6n+4.

    Features: `block` are the bare sums that end groups 1 to 3, `pre` the outputs of the
    batch norms that follow them (the first of the next group's first block; the final
    one), `post` the ReLUs of these; `stem` is the bare first convolution.

    Differs from the original in: a batch norm whose output is a feature runs once a
    step; the authors call it a second time, which moves its running statistics twice.

    Attributes:
      depth: convolutions in sequence plus the classifier; 6n+4.
      widen: factor on the widths 16, 32, 64 of the groups.
      num_classes: size of the logits.
      stem_stride: step of the first convolution; 2 brings 64x64 images to 32x32.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
      dropout: rate of the dropout between the convolutions of a block, as in the paper.
      stochastic_depth: rate at which the last block's branch is left out, example by
        example; those before at rates that rise linearly from 0, as in Huang et al.,
        "Deep Networks with Stochastic Depth" (ECCV 2016). Branches are scaled up in
        training, where the paper scales them down at inference.
    """

    depth: int
    widen: int
    num_classes: int
    stem_stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None
    dropout: float = 0.0
    stochastic_depth: float = 0.0

    RATES = ("dropout", "stochastic_depth")
    NAMES = "wrn_<depth>_<widen>[@64] with depth 6n+4"
    STANDARD = (
        *("wrn_10_1", "wrn_16_1", "wrn_40_1", "wrn_16_2", "wrn_28_2", "wrn_40_2"),
        *("wrn_10_4", "wrn_16_4", "wrn_22_4", "wrn_28_4"),
    )

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, int] | None:
        """Reads depth and widen from a network's name; None if it is another's."""
        match = re.fullmatch(r"wrn_(\d+)_(\d+)", name)
        if not match:
            return None
        depth, widen = map(int, match.groups())
        if image_size > 64 or depth < 10 or (depth - 4) % 6 or widen < 1:
            return None
        limits.check(name, depth, widen=widen)
        return {"depth": depth, "widen": widen, "stem_stride": image_size // 32}

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` the path of the batch norm it comes out of."""
        return (("group2_block0", "bn1"), ("group3_block0", "bn1"), ("bn",))

    def torch_modules(self, path: tuple[str, ...]) -> dict[str, str]:
        """Names the module at a path in the PyTorch layout that all public code has.

        That is the overhaul paper's, RepDistiller's and mdistiller's.
        """
        if len(path) == 1:
            names = {"stem": "conv1", "bn": "bn1", "classifier": "fc"}
            return {"overhaul": names[path[0]]}
        group, block = re.fullmatch(r"group(\d)_block(\d+)", path[0]).groups()
        name = "convShortcut" if path[1] == "shortcut" else path[1]
        return {"overhaul": f"block{group}.layer.{block}.{name}"}

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""
        settings = dict(dtype=self.dtype, axis_name=self.axis_name)
        x = layers.convolution(16, 3, self.stem_stride, dtype=self.dtype, name="stem")(
            image
        )
        stem, pre, sums = x, [], []
        blocks = (self.depth - 4) // 6
        for group in (1, 2, 3):
            for block in range(blocks):
                first = block == 0
                x, normalized = Block(
                    16 * self.widen * 2 ** (group - 1),
                    stride=2 if first and group > 1 else 1,
                    dropout=self.dropout,
                    stochastic_depth=self.stochastic_depth
                    * ((group - 1) * blocks + block + 1)
                    / (3 * blocks),
                    name=f"group{group}_block{block}",
                    **settings,
                )(x, train)
                if first and group > 1:
                    pre.append(normalized)
            sums.append(x)
        pre.append(layers.batch_norm(train, name="bn", **settings)(x))
        post = tuple(map(nn.relu, pre))
        pooled = layers.global_average(post[-1])
        logits = layers.classifier(self.num_classes, dtype=pooled.dtype)(pooled)
        return logits, Features(stem, post, tuple(pre), pooled, tuple(sums))
