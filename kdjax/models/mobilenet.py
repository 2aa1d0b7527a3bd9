"""MobileNet, first version: `mobilenet[@64]` for small images and `mobilenet@224`.

Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile
Vision Applications" (2017). Originals in PyTorch: for small images
kuangliu/pytorch-cifar, `models/mobilenet.py`; for ImageNet the student of the overhaul
paper, its code's `ImageNet/models/MobileNet.py`.
"""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers
from kdjax.models.features import Features

#: Channels and stride of the 13 units.
_UNITS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    *((512, 2), *((512, 1),) * 5),
    *((1024, 2), (1024, 1)),
)

#: The units that end where the next one halves the map, and the last: the features.
_TAPS = (3, 5, 11, 13)


class Separable(nn.Module):
    """Depthwise 3x3, BN, ReLU, 1x1, BN; the ReLU that follows is left to the caller."""

    channels: int
    stride: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv, norm = layers.conv_and_norm(
            self, train, kernel_init=layers.torch_convolution
        )
        width = x.shape[-1]
        x = conv(width, 3, self.stride, groups=width, name="conv1")(x)
        x = nn.relu(norm(name="bn1")(x))
        return norm(name="bn2")(conv(self.channels, 1, name="conv2")(x))


class MobileNet(nn.Module):
    """A 3x3 stem of 32 channels and 13 units of depthwise and 1x1 convolutions.

    The stem has stride 2 for ImageNet and stride 1 for small images; the units are the
    same. `mobilenet@64` is `mobilenet`, whose last map is averaged as a whole, 4x4
    instead of 2x2.

    Features: `pre` are the outputs of the batch norms that end units 3, 5, 11 and 13
    (128, 256, 512 and 1024 channels, at 16, 8, 4, 2 pixels or 56, 28, 14, 7), `post`
    their ReLUs, as in the overhaul paper's code, which has the ImageNet form alone;
    `stem` is the first convolution after batch norm and ReLU.

    Attributes:
      num_classes: size of the logits.
      stem_stride: step of the first convolution; 2 makes it the ImageNet form.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    num_classes: int
    stem_stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = "mobilenet[@64|@224]"
    STANDARD = ("mobilenet", "mobilenet@224")

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, int] | None:
        """Knows one name; returns None if it is another's."""
        if name != "mobilenet":
            return None
        return {"stem_stride": 2 if image_size == 224 else 1}

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` the path of the batch norm it comes out of."""
        return tuple((f"unit{unit}", "bn2") for unit in _TAPS)

    def torch_modules(self, path: tuple[str, ...]) -> dict[str, str]:
        """Names the module at a path in the PyTorch layout of the network's form.

        "overhaul", of the ImageNet form, is the overhaul paper's and mdistiller's;
        "kuangliu" that of the form for small images.
        """
        imagenet = self.stem_stride == 2
        if len(path) == 1:
            if imagenet:
                names = {"stem": "model.0.0", "stem_bn": "model.0.1"}
                return {"overhaul": names.get(path[0], "fc")}
            names = {"stem": "conv1", "stem_bn": "bn1"}
            return {"kuangliu": names.get(path[0], "linear")}
        unit = int(re.fullmatch(r"unit(\d+)", path[0])[1])
        if imagenet:
            # Between the two pairs of convolution and batch norm stands a ReLU.
            index = ("conv1", "bn1", "relu", "conv2", "bn2").index(path[1])
            return {"overhaul": f"model.{unit}.{index}"}
        return {"kuangliu": f"layers.{unit - 1}.{path[1]}"}

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""
        settings = dict(dtype=self.dtype, axis_name=self.axis_name)
        x = layers.convolution(
            32,
            3,
            self.stem_stride,
            kernel_init=layers.torch_convolution,
            dtype=self.dtype,
            name="stem",
        )(image)
        x = nn.relu(layers.batch_norm(train, name="stem_bn", **settings)(x))
        stem, pre, post = x, [], []
        for unit, (width, stride) in enumerate(_UNITS, start=1):
            normalized = Separable(width, stride, name=f"unit{unit}", **settings)(
                x, train
            )
            x = nn.relu(normalized)
            if unit in _TAPS:
                pre.append(normalized)
                post.append(x)
        pooled = layers.global_average(x)
        logits = layers.classifier(
            self.num_classes,
            bias_init=layers.torch_bias(pooled.shape[-1]),
            dtype=pooled.dtype,
        )(pooled)
        return logits, Features(stem, tuple(post), tuple(pre), pooled)
