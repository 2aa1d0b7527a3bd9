"""ShuffleNet, second version, of the CIFAR-100 benchmark: `shufflenet_v2[@64]`.

Source: Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
Design" (ECCV 2018), of width 1 and for small images; original in PyTorch: RepDistiller,
`models/ShuffleNetv2.py`.
"""

import re
from typing import Any, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers
from kdjax.models.features import Features
from kdjax.models.shufflenet import shuffle_channels

#: Channels of the three stages, and their blocks after the one that halves the map.
_STAGES = ((116, 3), (232, 7), (464, 3))


class Down(nn.Module):
    """Halves the map in two branches, concatenated and shuffled.

    Left: depthwise 3x3, BN, 1x1, BN, ReLU. Right: 1x1, BN, ReLU, depthwise 3x3, BN,
    1x1, BN, ReLU.
    """

    channels: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv, norm = layers.conv_and_norm(
            self, train, kernel_init=layers.torch_convolution
        )
        before, half = x.shape[-1], self.channels // 2
        left = norm(name="bn1")(conv(before, 3, 2, groups=before, name="conv1")(x))
        left = nn.relu(norm(name="bn2")(conv(half, 1, name="conv2")(left)))
        right = nn.relu(norm(name="bn3")(conv(half, 1, name="conv3")(x)))
        right = norm(name="bn4")(conv(half, 3, 2, groups=half, name="conv4")(right))
        right = nn.relu(norm(name="bn5")(conv(half, 1, name="conv5")(right)))
        return shuffle_channels(jnp.concatenate([left, right], axis=-1), 2)


class Block(nn.Module):
    """Passes half of the channels on, and the others through three convolutions.

    These are 1x1, BN, ReLU, depthwise 3x3, BN, 1x1, BN. The halves are concatenated and
    shuffled; the ReLU that follows is left to the caller. It does not change the half
    that is passed on, which has been through one already.
    """

    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv, norm = layers.conv_and_norm(
            self, train, kernel_init=layers.torch_convolution
        )
        passed, y = jnp.split(x, 2, axis=-1)
        half = y.shape[-1]
        y = nn.relu(norm(name="bn1")(conv(half, 1, name="conv1")(y)))
        y = norm(name="bn2")(conv(half, 3, groups=half, name="conv2")(y))
        y = norm(name="bn3")(conv(half, 1, name="conv3")(y))
        return shuffle_channels(jnp.concatenate([passed, y], axis=-1), 2)


class ShuffleNetV2(nn.Module):
    """A 1x1 stem of 24 channels, three stages that halve the map, a 1x1 head of 1024.

    `shufflenet_v2@64` is `shufflenet_v2`, whose last map is averaged as a whole, 8x8
    instead of 4x4.

    Features: `post` are the outputs of the stages (116, 232 and 464 channels at 16, 8
    and 4 pixels), `pre` the same before the last block's ReLU, which half of the
    channels have been through already; `stem` is the first convolution after batch norm
    and ReLU.

    Differs from the original in: the channels of `pre` are in the order of `post`;
    RepDistiller gives them before the shuffle and those of `post` after it.

    Attributes:
      num_classes: size of the logits.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    num_classes: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = "shufflenet_v2[@64]"
    STANDARD = ("shufflenet_v2",)

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, Any] | None:
        """Knows one name; returns None if it is another's."""
        return {} if name == "shufflenet_v2" and image_size <= 64 else None

    def margin_batch_norms(self) -> NoReturn:
        """Raises a ValueError: half of `pre` comes out of earlier ReLUs."""
        raise ValueError(
            "no batch norm alone stands before the ReLUs that end the stages of "
            "shufflenet_v2: it needs methods.overhaul.margin='measured'"
        )

    def torch_modules(self, path: tuple[str, ...]) -> dict[str, str]:
        """Names the module at a path in the layout of RepDistiller and mdistiller."""
        if len(path) == 1:
            names = {
                "stem": "conv1",
                "stem_bn": "bn1",
                "head": "conv2",
                "head_bn": "bn2",
                "classifier": "linear",
            }
            return {"repdistiller": names[path[0]]}
        stage, block = re.fullmatch(r"stage(\d)_block(\d)", path[0]).groups()
        return {"repdistiller": f"layer{stage}.{block}.{path[1]}"}

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""
        settings = dict(dtype=self.dtype, axis_name=self.axis_name)
        conv, norm = layers.conv_and_norm(
            self, train, kernel_init=layers.torch_convolution
        )
        x = nn.relu(norm(name="stem_bn")(conv(24, 1, name="stem")(image)))
        stem, pre, post = x, [], []
        for stage, (width, blocks) in enumerate(_STAGES, start=1):
            x = Down(width, name=f"stage{stage}_block0", **settings)(x, train)
            for block in range(1, blocks + 1):
                before_relu = Block(name=f"stage{stage}_block{block}", **settings)(
                    x, train
                )
                x = nn.relu(before_relu)
            pre.append(before_relu)
            post.append(x)
        x = nn.relu(norm(name="head_bn")(conv(1024, 1, name="head")(x)))
        pooled = layers.global_average(x)
        logits = layers.classifier(
            self.num_classes,
            bias_init=layers.torch_bias(pooled.shape[-1]),
            dtype=pooled.dtype,
        )(pooled)
        return logits, Features(stem, tuple(post), tuple(pre), pooled, last=x)
