"""Residual networks, `resnet<depth>`, four times as wide ones and a student of MHGD.

Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section
4.2, in the form of the overhaul paper's code (`models/ResNet.py`): basic blocks,
projection shortcuts, the last ReLU of a block moved to the entry of the next one so
that the sums before it can be distilled.

`resnet<depth>x4`: original in PyTorch: RepDistiller, `models/resnet.py`; it has the
layers of `ResNet.py` in the code of MHGD, sseung0703/KD_methods_with_TF, whose layout
for 64x64 images is `resnet<depth>x4@64` (five groups, n blocks in each).
`mhgd_resnet`: the slides of Lee and Song, "Graph-based Knowledge Distillation by
Multi-head Attention Network" (BMVC 2019), whose ResNet student has a narrower stem.
Differs from the originals of MHGD in: strided convolutions pad on every side, where
TensorFlow pads below and on the right; the initial weights are those of PyTorch. That
the stem of `mhgd_resnet@64` has stride 2, as the slides' WResNet has, is our reading.
"""

import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers
from kdjax.models.features import Features

#: Stem and groups by what follows the depth in the name and the size of the images.
_LAYOUTS = {
    (None, 32): (16, (16, 32, 64)),
    ("x4", 32): (32, (64, 128, 256)),
    ("x4", 64): (16, (32, 64, 128, 256, 512)),
}


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
        if x.shape[-1] != self.channels or self.stride != 1:
            x = conv(self.channels, 1, self.stride, name="shortcut")(x)
            x = norm(name="shortcut_bn")(x)
        return x + y


class ResNet(nn.Module):
    """A residual network whose first group keeps the size and the others halve it.

    Features: `pre` are the sums that end the groups, `post` their ReLUs. The margin of
    a sum is taken from the batch norm of its last residual branch alone, as the authors
    do, although the shortcut is added after it.

    Attributes:
      blocks: blocks in each group.
      num_classes: size of the logits.
      stem: channels of the first convolution.
      widths: channels of each group.
      stem_stride: step of the first convolution; 2 brings 64x64 images to 32x32.
      dtype: type of the computation.
      axis_name: device axis of synchronised batch norms, or None.
    """

    blocks: int
    num_classes: int
    stem: int = 16
    widths: tuple[int, ...] = (16, 32, 64)
    stem_stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = "resnet<depth> and resnet<depth>x4[@64] with depth 6n+2; mhgd_resnet[@64]"

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, Any] | None:
        """Reads blocks, stem and widths from a name; None if it is another's."""
        if name == "mhgd_resnet" and image_size <= 64:
            stride = image_size // 32
            return {"blocks": 1, "widths": (64, 128, 256), "stem_stride": stride}
        match = re.fullmatch(r"resnet(\d+)(x4)?", name)
        if not match or (match[2], image_size) not in _LAYOUTS:
            return None
        depth = int(match[1])
        if depth < 8 or (depth - 2) % 6:
            return None
        stem, widths = _LAYOUTS[match[2], image_size]
        return {"blocks": (depth - 2) // 6, "stem": stem, "widths": widths}

    @property
    def _groups(self) -> range:
        return range(1, len(self.widths) + 1)

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` the path of the batch norm that gives its margin."""
        last = self.blocks - 1
        return tuple((f"group{group}_block{last}", "bn2") for group in self._groups)

    def torch_modules(self, path: tuple[str, ...]) -> dict[str, str]:
        """Names the module at a path in each PyTorch layout.

        "overhaul" is that of the overhaul paper's code, of RepDistiller and mdistiller
        and of torchvision; "linear" the other widespread one.
        """
        if len(path) == 1:
            name = {"stem": "conv1", "stem_bn": "bn1"}.get(path[0])
            return {"overhaul": name or "fc", "linear": name or "linear"}
        group, block = re.fullmatch(r"group(\d)_block(\d+)", path[0]).groups()
        part = {"shortcut": ".0", "shortcut_bn": ".1"}.get(path[1])
        names = {"overhaul": "downsample", "linear": "shortcut"}
        return {
            layout: f"layer{group}.{block}.{name + part if part else path[1]}"
            for layout, name in names.items()
        }

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalised images: [B, K] logits and features."""
        settings = dict(dtype=self.dtype, axis_name=self.axis_name)
        x = layers.convolution(
            self.stem, 3, self.stem_stride, dtype=self.dtype, name="stem"
        )(image)
        x = layers.batch_norm(train, name="stem_bn", **settings)(x)
        stem, pre = nn.relu(x), []
        for group, width in zip(self._groups, self.widths, strict=True):
            for block in range(self.blocks):
                x = Block(
                    width,
                    stride=2 if block == 0 and group > 1 else 1,
                    name=f"group{group}_block{block}",
                    **settings,
                )(x, train)
            pre.append(x)
        post = tuple(map(nn.relu, pre))
        pooled = layers.global_average(post[-1])
        logits = layers.classifier(
            self.num_classes,
            bias_init=layers.torch_bias(pooled.shape[-1]),
            dtype=pooled.dtype,
        )(pooled)
        return logits, Features(stem, post, tuple(pre), pooled)
