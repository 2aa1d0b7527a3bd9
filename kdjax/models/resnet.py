"""Residual networks: thin ones, four times as wide ones, wide ones and ImageNet's.

Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), in the
form of the overhaul paper's code (`models/ResNet.py`): the last ReLU of a block is
moved to the entry of the next one so that the sums before it can be distilled.

`resnet<depth>` with depth 6n+2: section 4.2, basic blocks in three groups of 16, 32 and
64 channels, but projection shortcuts. `resnet<depth>_zero_padded` has the shortcuts of
that section ("option A"), which most of the older public checkpoints for CIFAR have.

`resnet<depth>x4`: original in PyTorch: RepDistiller, `models/resnet.py`; it has the
layers of `ResNet.py` in the code of MHGD, sseung0703/KD_methods_with_TF, whose layout
for 64x64 images is `resnet<depth>x4@64` (five groups, n blocks in each).

`resnet18`, `resnet34`, `resnet50`, `resnet101` and `resnet152`: four groups of 64 to
512 channels, from 50 on of bottlenecks. With `@224` they are section 4.1's in the form
of torchvision, whose stride sits in the 3x3 convolution; without it and with `@64` they
have a 3x3 stem of stride 1 and no pool, as kuangliu/pytorch-cifar and the `ResNet50` of
RepDistiller. 50 and 152 are 6n+2 as well: these names always mean the wide networks,
and thin ones of those depths have no name but with `x4` or `_zero_padded`.

`mhgd_resnet`: the slides of Lee and Song, "Graph-based Knowledge Distillation by
Multi-head Attention Network" (BMVC 2019), whose ResNet student has a narrower stem.
Differs from the originals of MHGD in: strided convolutions pad on every side, where
TensorFlow pads below and on the right; the initial weights are those of PyTorch. That
the stem of `mhgd_resnet@64` has stride 2, as the slides' WResNet has, is an assumption.
"""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers, limits
from kdjax.models.features import Features

#: Stem and groups by what follows the depth 6n+2 in the name and the size of the
#: images.
_LAYOUTS = {
    (None, 32): (16, (16, 32, 64)),
    ("_zero_padded", 32): (16, (16, 32, 64)),
    ("x4", 32): (32, (64, 128, 256)),
    ("x4", 64): (16, (32, 64, 128, 256, 512)),
}

#: Blocks in each group of the wide networks, by depth; bottlenecks from 50 on.
_WIDE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}

#: Their stem by the size of the images.
_WIDE_STEMS = {
    32: {},
    64: {},
    224: {"stem_size": 7, "stem_stride": 2, "pool": True},
}


def zero_padded_shortcut(x: jax.Array, channels: int, stride: int) -> jax.Array:
    """Thins [B, H, W, C] out in space and adds channels of zeros on both sides.

    Source: He et al., section 4.2 ("option A"); half of the new channels go before the
    old ones and half behind, as in akamaster/pytorch_resnet_cifar10, `resnet.py`.
    """
    missing = channels - x.shape[-1]
    before = missing // 2
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, missing - before)))


class Block(nn.Module):
    """ReLU, then convolutions with BN and ReLU between them, plus the shortcut.

    Two 3x3, or as a bottleneck 1x1, 3x3, 1x1 with four times the channels; the first
    3x3 has the stride. No ReLU after the sum.
    """

    channels: int
    stride: int
    bottleneck: bool
    zero_padded: bool
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv, norm = layers.conv_and_norm(self, train)
        inner, stride = self.channels, self.stride
        if self.bottleneck:
            convolutions = ((inner, 1, 1), (inner, 3, stride), (4 * inner, 1, 1))
        else:
            convolutions = ((inner, 3, stride), (inner, 3, 1))
        x = y = nn.relu(x)
        for index, convolution in enumerate(convolutions, start=1):
            if index > 1:
                y = nn.relu(y)
            y = norm(name=f"bn{index}")(conv(*convolution, name=f"conv{index}")(y))
        channels = y.shape[-1]
        if x.shape[-1] != channels or stride != 1:
            if self.zero_padded:
                x = zero_padded_shortcut(x, channels, stride)
            else:
                x = conv(channels, 1, stride, name="shortcut")(x)
                x = norm(name="shortcut_bn")(x)
        return x + y


class ResNet(nn.Module):
    """A residual network whose first group keeps the size and the others halve it.

    Features: `pre` are the sums that end the groups, `post` their ReLUs; `stem` is what
    the first group gets, after the ReLU and the pool. The margin of a sum is taken from
    the batch norm of its last residual branch alone, as the authors do, although the
    shortcut is added after it.

    Differs from the original in: the last average is taken over the whole map, where
    the overhaul paper's networks for ImageNet average 7x7; all start from the weights
    that the overhaul paper's do, where the original code of the zero-padded and of the
    wide ones starts from others.

    Attributes:
      blocks: their number in each group.
      num_classes: size of the logits.
      stem: channels of the first convolution.
      widths: channels of each group; bottlenecks put out four times as many.
      bottleneck: whether the blocks are bottlenecks.
      zero_padded: shortcuts without parameters where the shape changes.
      stem_size: height and width of the first convolution's kernel.
      stem_stride: its step; 2 brings 64x64 images to 32x32.
      pool: whether a 3x3 max pool of stride 2 follows.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    blocks: tuple[int, ...]
    num_classes: int
    stem: int = 16
    widths: tuple[int, ...] = (16, 32, 64)
    bottleneck: bool = False
    zero_padded: bool = False
    stem_size: int = 3
    stem_stride: int = 1
    pool: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = (
        "resnet18, resnet34, resnet50, resnet101 and resnet152 [@64 or @224]; "
        "resnet<depth>, resnet<depth>_zero_padded and resnet<depth>x4[@64] with depth "
        "6n+2; mhgd_resnet[@64]"
    )
    STANDARD = (
        *("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56"),
        *("resnet110", "resnet20_zero_padded", "resnet32_zero_padded"),
        *("resnet44_zero_padded", "resnet56_zero_padded", "resnet110_zero_padded"),
        *("resnet8x4", "resnet32x4", "resnet50"),
        *("resnet18@224", "resnet34@224", "resnet50@224", "resnet101@224"),
        *("resnet152@224", "mhgd_resnet"),
    )

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, Any] | None:
        """Reads blocks, stem and widths from a name; None if it is another's."""
        if name == "mhgd_resnet" and image_size <= 64:
            return {
                "blocks": (1, 1, 1),
                "widths": (64, 128, 256),
                "stem_stride": image_size // 32,
            }
        match = re.fullmatch(r"resnet(\d+)(x4|_zero_padded)?", name)
        if not match:
            return None
        depth, variant = int(match[1]), match[2]
        if depth in _WIDE and variant is None:
            if image_size not in _WIDE_STEMS:
                return None
            return {
                "blocks": _WIDE[depth],
                "stem": 64,
                "widths": (64, 128, 256, 512),
                "bottleneck": depth >= 50,
                **_WIDE_STEMS[image_size],
            }
        if (variant, image_size) not in _LAYOUTS or depth < 8 or (depth - 2) % 6:
            return None
        limits.check(name, depth)
        stem, widths = _LAYOUTS[variant, image_size]
        return {
            "blocks": ((depth - 2) // 6,) * len(widths),
            "stem": stem,
            "widths": widths,
            "zero_padded": variant == "_zero_padded",
        }

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` the path of the batch norm that gives its margin."""
        norm = "bn3" if self.bottleneck else "bn2"
        return tuple(
            (f"group{group}_block{blocks - 1}", norm)
            for group, blocks in enumerate(self.blocks, start=1)
        )

    def torch_modules(self, path: tuple[str, ...]) -> dict[str, str]:
        """Names the module at a path in each PyTorch layout.

        "overhaul" is that of the overhaul paper's code, of RepDistiller and mdistiller
        and of torchvision; "linear" the other widespread one. Shortcuts of zeros have
        no entries in either.
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
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""
        settings = dict(dtype=self.dtype, axis_name=self.axis_name)
        x = layers.convolution(
            self.stem, self.stem_size, self.stem_stride, dtype=self.dtype, name="stem"
        )(image)
        x = layers.batch_norm(train, name="stem_bn", **settings)(x)
        if self.pool:
            # The ReLU commutes with it.
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        stem, pre = nn.relu(x), []
        groups = zip(self.widths, self.blocks, strict=True)
        for group, (width, blocks) in enumerate(groups, start=1):
            for block in range(blocks):
                x = Block(
                    width,
                    stride=2 if block == 0 and group > 1 else 1,
                    bottleneck=self.bottleneck,
                    zero_padded=self.zero_padded,
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
