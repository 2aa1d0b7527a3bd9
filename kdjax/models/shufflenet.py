"""ShuffleNet, first version, of the CIFAR-100 benchmark: `shufflenet_v1[@64]`.

Source: Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network
for Mobile Devices" (CVPR 2018), with three groups and for small images; original in
PyTorch: RepDistiller, `models/ShuffleNetv1.py`.
"""

import re
from typing import Any, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers
from kdjax.models.features import Features

#: Channels and blocks of the three stages.
_STAGES = ((240, 4), (480, 8), (960, 4))

#: Channels of the stem, and groups of the 1x1 convolutions.
_STEM, _GROUPS = 24, 3


def shuffle_channels(x: jax.Array, groups: int) -> jax.Array:
    """Channel shuffle of [B, H, W, C]: one channel of each group in turn."""
    *space, channels = x.shape
    x = x.reshape(*space, groups, channels // groups)
    return jnp.swapaxes(x, -2, -1).reshape(*space, channels)


class Block(nn.Module):
    """1x1, BN, ReLU, shuffle, depthwise 3x3, BN, ReLU, 1x1, BN and the shortcut.

    The 1x1 convolutions are grouped; the first of the first block, which sees the 24
    channels of the stem, is not. At stride 1 the input is added. At stride 2 it is
    averaged over 3x3, zeros at the border counted, and concatenated, so that the branch
    has that many channels less. The ReLU that follows is left to the caller.
    """

    channels: int
    stride: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv, norm = layers.conv_and_norm(
            self, train, kernel_init=layers.torch_convolution
        )
        groups = 1 if x.shape[-1] == _STEM else _GROUPS
        width = self.channels - (x.shape[-1] if self.stride == 2 else 0)
        middle = width // 4
        y = nn.relu(norm(name="bn1")(conv(middle, 1, groups=groups, name="conv1")(x)))
        y = shuffle_channels(y, groups)
        y = conv(middle, 3, self.stride, groups=middle, name="conv2")(y)
        y = nn.relu(norm(name="bn2")(y))
        y = norm(name="bn3")(conv(width, 1, groups=_GROUPS, name="conv3")(y))
        if self.stride == 1:
            return y + x
        x = nn.avg_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        return jnp.concatenate([y, x], axis=-1)


class ShuffleNet(nn.Module):
    """A 1x1 stem of 24 channels and three stages that halve the map.

    `shufflenet_v1@64` is `shufflenet_v1`, whose last map is averaged as a whole, 8x8
    instead of 4x4.

    Features: `pre` are the sums that end the stages (240, 480 and 960 channels at 16, 8
    and 4 pixels), `post` their ReLUs; `stem` is the first convolution after batch norm
    and ReLU.

    Attributes:
      num_classes: size of the logits.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    num_classes: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = "shufflenet_v1[@64]"
    STANDARD = ("shufflenet_v1",)

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, Any] | None:
        """Knows one name; returns None if it is another's."""
        return {} if name == "shufflenet_v1" and image_size <= 64 else None

    def margin_batch_norms(self) -> NoReturn:
        """Raises a ValueError, as RepDistiller: `pre` is no batch norm's output."""
        raise ValueError(
            "no batch norm alone stands before the ReLUs that end the stages of "
            "shufflenet_v1: it needs methods.overhaul.margin='measured'"
        )

    def torch_modules(self, path: tuple[str, ...]) -> dict[str, str]:
        """Names the module at a path in the layout of RepDistiller and mdistiller."""
        if len(path) == 1:
            names = {"stem": "conv1", "stem_bn": "bn1", "classifier": "linear"}
            return {"repdistiller": names[path[0]]}
        stage, block = re.fullmatch(r"stage(\d)_block(\d)", path[0]).groups()
        return {"repdistiller": f"layer{stage}.{block}.{path[1]}"}

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""
        settings = dict(dtype=self.dtype, axis_name=self.axis_name)
        x = layers.convolution(
            _STEM,
            1,
            kernel_init=layers.torch_convolution,
            dtype=self.dtype,
            name="stem",
        )(image)
        x = nn.relu(layers.batch_norm(train, name="stem_bn", **settings)(x))
        stem, pre, post = x, [], []
        for stage, (width, blocks) in enumerate(_STAGES, start=1):
            for block in range(blocks):
                total = Block(
                    width,
                    stride=1 if block else 2,
                    name=f"stage{stage}_block{block}",
                    **settings,
                )(x, train)
                x = nn.relu(total)
            pre.append(total)
            post.append(x)
        pooled = layers.global_average(x)
        logits = layers.classifier(
            self.num_classes,
            bias_init=layers.torch_bias(pooled.shape[-1]),
            dtype=pooled.dtype,
        )(pooled)
        return logits, Features(stem, tuple(post), tuple(pre), pooled)
