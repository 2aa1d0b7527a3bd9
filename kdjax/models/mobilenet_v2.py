"""MobileNet, second version: `mobilenet_v2[@64]` and, for ImageNet, `mobilenet_v2@224`.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR
2018). Originals in PyTorch: for small images, at half the width, RepDistiller,
`models/mobilenetv2.py` (`mobile_half`); for ImageNet torchvision,
`models/mobilenetv2.py`.
"""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers
from kdjax.models.features import Features

#: Expansion, channels at full width, blocks and stride of the seven stages; the stride
#: is that for ImageNet.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

#: The stages, from 0, whose outputs are features.
_TAPS = (1, 2, 4, 6)

#: Indices of a block's layers in its sequence in RepDistiller, which has a ReLU after
#: the first and the second pair, and in torchvision, which nests those pairs.
_INDICES = {
    "repdistiller": {
        "expand": "0",
        "expand_bn": "1",
        "depthwise": "3",
        "depthwise_bn": "4",
        "project": "6",
        "project_bn": "7",
    },
    "torchvision": {
        "expand": "0.0",
        "expand_bn": "0.1",
        "depthwise": "1.0",
        "depthwise_bn": "1.1",
        "project": "2",
        "project_bn": "3",
    },
    # The first block, which does not expand.
    "torchvision, first": {
        "depthwise": "0.0",
        "depthwise_bn": "0.1",
        "project": "1",
        "project_bn": "2",
    },
}


class Bottleneck(nn.Module):
    """1x1 expansion, BN, ReLU, depthwise 3x3, BN, ReLU, 1x1, BN, and the input.

    The input is added where the shape stays. No ReLU follows. With `imagenet` the ReLUs
    end at 6, and an expansion by 1 is left out.
    """

    channels: int
    stride: int
    expansion: int
    imagenet: bool
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv, norm = layers.conv_and_norm(self, train)
        relu = nn.relu6 if self.imagenet else nn.relu
        width = self.expansion * x.shape[-1]
        y = x
        if self.expansion > 1 or not self.imagenet:
            y = relu(norm(name="expand_bn")(conv(width, 1, name="expand")(y)))
        y = conv(width, 3, self.stride, groups=width, name="depthwise")(y)
        y = relu(norm(name="depthwise_bn")(y))
        y = norm(name="project_bn")(conv(self.channels, 1, name="project")(y))
        return x + y if x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """A 3x3 stem of stride 2, 17 inverted residual blocks, a 1x1 convolution to 1280.

    For small images stages have half the channels and the second one stride 1.
    `mobilenet_v2@64` is `mobilenet_v2`, whose last map is averaged as a whole, 4x4
    instead of 2x2.

    Features: `pre` are the linear bottlenecks that end stages 2, 3, 5 and 7, after the
    shortcut is added (12, 16, 48 and 160 channels at 16, 8, 4, 2 pixels; for ImageNet
    24, 32, 96 and 320 at 56, 28, 14, 7). No ReLU follows a linear bottleneck, so `post`
    are the same maps. The margin is taken from the last batch norm of the stage's last
    block alone, although the shortcut is added after it, as for residual networks;
    `methods.overhaul.margin='measured'` measures it on the maps instead. `stem` is the
    first convolution after batch norm and ReLU.

    Differs from the original in: torchvision drops a fifth of `pooled` in training, and
    nothing is dropped here; its features are chosen as RepDistiller's are.

    Attributes:
      num_classes: size of the logits.
      imagenet: torchvision's form: full width, ReLUs that end at 6, a second stage of
        stride 2, no expansion in the first block.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    num_classes: int
    imagenet: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = "mobilenet_v2[@64|@224]"
    STANDARD = ("mobilenet_v2", "mobilenet_v2@224")

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, bool] | None:
        """Knows one name; returns None if it is another's."""
        return {"imagenet": image_size == 224} if name == "mobilenet_v2" else None

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` the path of the batch norm that gives its margin."""
        return tuple(
            (f"stage{stage}_block{_STAGES[stage][2] - 1}", "project_bn")
            for stage in _TAPS
        )

    def torch_modules(self, path: tuple[str, ...]) -> dict[str, str]:
        """Names the module at a path in the PyTorch layout of the network's form.

        "repdistiller", also mdistiller's, or, of the ImageNet form, "torchvision".
        """
        layout = "torchvision" if self.imagenet else "repdistiller"
        if path == ("classifier",):
            return {layout: "classifier.1" if self.imagenet else "classifier.0"}
        if len(path) == 1:
            part, norm = re.fullmatch(r"(stem|head)(_bn)?", path[0]).groups()
            if self.imagenet:
                name = {"stem": "features.0", "head": "features.18"}[part]
            else:
                name = {"stem": "conv1", "head": "conv2"}[part]
            return {layout: f"{name}.{1 if norm else 0}"}
        match = re.fullmatch(r"stage(\d)_block(\d)", path[0])
        stage, block = map(int, match.groups())
        if not self.imagenet:
            index = _INDICES[layout][path[1]]
            return {layout: f"blocks.{stage}.{block}.conv.{index}"}
        # Counts the blocks of all stages on, from 1.
        number = 1 + sum(blocks for *_, blocks, _ in _STAGES[:stage]) + block
        index = _INDICES["torchvision, first" if number == 1 else layout][path[1]]
        return {layout: f"features.{number}.conv.{index}"}

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""
        settings = dict(dtype=self.dtype, axis_name=self.axis_name)
        conv, norm = layers.conv_and_norm(self, train)
        relu = nn.relu6 if self.imagenet else nn.relu
        divisor = 1 if self.imagenet else 2
        x = relu(norm(name="stem_bn")(conv(32 // divisor, 3, 2, name="stem")(image)))
        stem, pre = x, []
        for stage, (expansion, width, blocks, stride) in enumerate(_STAGES):
            if stage == 1 and not self.imagenet:
                stride = 1
            for block in range(blocks):
                x = Bottleneck(
                    width // divisor,
                    1 if block else stride,
                    expansion,
                    imagenet=self.imagenet,
                    name=f"stage{stage}_block{block}",
                    **settings,
                )(x, train)
            if stage in _TAPS:
                pre.append(x)
        x = relu(norm(name="head_bn")(conv(1280, 1, name="head")(x)))
        pooled = layers.global_average(x)
        logits = layers.classifier(
            self.num_classes,
            kernel_init=nn.initializers.normal(0.01),
            dtype=pooled.dtype,
        )(pooled)
        return logits, Features(stem, tuple(pre), tuple(pre), pooled, last=x)
