"""The networks of MHGD other than WResNet and ResNet.

`mhgd_vgg16` and `mhgd_vgg7`, a pair; `mhgd_vgg_strided` and `mhgd_mobilenet`, two of
the students that a wide residual network teaches.

Source: Lee and Song, "Graph-based Knowledge Distillation by Multi-head Attention
Network" (BMVC 2019), by the layers on its slides: VGG-Teacher, VGG-Student, the
modified VGG and MobileNet. Their code was not released; what the slides leave open
follows the VGG and the MobileNet of their KD-SVD (ECCV 2018, sseung0703/SSKD_SVD).
"""

import functools
from typing import Any, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers
from kdjax.models.features import Features

#: Channels of the five groups.
_WIDTHS = (64, 128, 256, 512, 512)

#: Convolutions in each group, and hidden linear layers, by name.
_DEPTHS = {
    "mhgd_vgg16": {"convolutions": (2, 2, 3, 3, 3), "hidden": 2},
    "mhgd_vgg7": {"convolutions": (1, 1, 1, 1, 1), "hidden": 1},
}

#: The groups that end in a pool, by the size of the images: both reach 2x2.
_POOLS = {32: (1, 2, 3, 5), 64: (1, 2, 3, 4, 5)}

#: N(0, sqrt(2 / in)), truncated.
_he_normal = nn.initializers.he_normal()


class VGG(nn.Module):
    """3x3 convolutions with biases, ReLUs and 2x2 max pools, then linear layers.

    Without batch norms the weights must start at the right size: normal of variance
    2 / fan-in, in the linear layers too, and biases of 0, as in the code of KD-SVD. It
    trains at the learning rate of that code, 0.01; at 0.1 it diverges within few steps.

    Features: `post` are the outputs of the five groups, after the pool where a group
    has one, as in the code of KD-SVD; `pre` are the same of the last convolution before
    its ReLU, which commutes with the pool; `stem` is the first convolution after its
    ReLU. `pooled` is the last hidden linear layer.

    The linear layers fix the size of the images when the weights are made.

    Differs from the original in: no dropout after the hidden linear layers, where the
    code of KD-SVD keeps half (the slides show none); the fifth point is the output of
    the fifth group, which KD-SVD does not have.

    Attributes:
      convolutions: their number in each of the five groups.
      hidden: linear layers of 1024 before the classifier.
      pools: the groups, from 1, that end in a pool.
      num_classes: size of the logits.
      dtype: type of the computation.
      axis_name: not used; there are no batch norms.
    """

    convolutions: tuple[int, ...]
    hidden: int
    pools: tuple[int, ...]
    num_classes: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = "mhgd_vgg16[@64] and mhgd_vgg7[@64]"
    STANDARD = ("mhgd_vgg16", "mhgd_vgg7")

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, Any] | None:
        """Looks up the layers of a network's name; None if it is another's."""
        if name not in _DEPTHS or image_size not in _POOLS:
            return None
        return {**_DEPTHS[name], "pools": _POOLS[image_size]}

    def margin_batch_norms(self) -> NoReturn:
        """Raises a ValueError: this network has no batch norms."""
        raise ValueError(
            "mhgd_vgg16 and mhgd_vgg7 have no batch norms to take margins from: they "
            "need methods.overhaul.margin='measured'"
        )

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features.

        Raises:
          ValueError: if the pools would leave nothing of the images.
        """
        del train  # Does the same in training.
        smallest = 2 ** len(self.pools)
        if min(image.shape[1:3]) < smallest:
            raise ValueError(
                f"this VGG needs images of {smallest}x{smallest} or more, not of "
                f"{image.shape[1]}x{image.shape[2]}"
            )
        conv = functools.partial(
            layers.convolution,
            use_bias=True,
            kernel_init=_he_normal,
            dtype=self.dtype,
        )
        x = image
        pre, post = [], []
        groups = zip(_WIDTHS, self.convolutions, strict=True)
        for group, (width, number) in enumerate(groups, start=1):
            for index in range(number):
                if index:
                    x = nn.relu(x)
                x = conv(width, 3, name=f"group{group}_conv{index}")(x)
                if group == 1 and index == 0:
                    stem = nn.relu(x)
            if group in self.pools:
                x = nn.max_pool(x, (2, 2), (2, 2))
            pre.append(x)
            x = nn.relu(x)
            post.append(x)
        x = x.reshape(x.shape[0], -1)
        for index in range(self.hidden):
            x = nn.Dense(
                1024, kernel_init=_he_normal, dtype=self.dtype, name=f"hidden{index}"
            )(x)
            x = nn.relu(x)
        pooled = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        logits = layers.classifier(
            self.num_classes, kernel_init=_he_normal, dtype=pooled.dtype
        )(pooled)
        return logits, Features(stem, tuple(post), tuple(pre), pooled)


class StridedVGG(nn.Module):
    """3x3 convolutions, batch norms and ReLUs; convolutions of stride 2, no pools.

    A stem of 16 channels, then two convolutions each of 64, 128 and 256, the latter two
    groups starting with stride 2.

    Features: `pre` are the outputs of the batch norms that end the three groups, `post`
    their ReLUs.

    Differs from the original in: strided convolutions pad on every side, where
    TensorFlow pads below and on the right. The slides show no batch norms. One follows
    every convolution here, as in the other students of that teacher: at 69.76 % this
    network is published above the much larger VGG-Teacher, 67.99 %, which has none by
    the code of KD-SVD. That the stem has stride 2 for 64x64 images, as the slides'
    WResNet has, is an assumption.

    Attributes:
      num_classes: size of the logits.
      stem_stride: step of the first convolution; 2 brings 64x64 images to 32x32.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    num_classes: int
    stem_stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = "mhgd_vgg_strided[@64]"
    STANDARD = ("mhgd_vgg_strided",)

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, int] | None:
        """Knows one name; returns None if it is another's."""
        if name != "mhgd_vgg_strided" or image_size > 64:
            return None
        return {"stem_stride": image_size // 32}

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` the path of the batch norm it comes out of."""
        return tuple((f"group{group}_bn1",) for group in (1, 2, 3))

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""
        conv, norm = layers.conv_and_norm(self, train)
        x = norm(name="stem_bn")(conv(16, 3, self.stem_stride, name="stem")(image))
        stem, pre = nn.relu(x), []
        for group in (1, 2, 3):
            for index in (0, 1):
                width = 64 * 2 ** (group - 1)
                stride = 2 if index == 0 and group > 1 else 1
                name = f"group{group}_conv{index}"
                x = conv(width, 3, stride, name=name)(nn.relu(x))
                x = norm(name=f"group{group}_bn{index}")(x)
            pre.append(x)
        post = tuple(map(nn.relu, pre))
        pooled = layers.global_average(post[-1])
        logits = layers.classifier(self.num_classes, dtype=pooled.dtype)(pooled)
        return logits, Features(stem, post, tuple(pre), pooled)


class Separable(nn.Module):
    """ReLU, depthwise 3x3, BN, ReLU, 1x1, BN; the last ReLU is the next block's."""

    channels: int
    stride: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv, norm = layers.conv_and_norm(self, train)
        width = x.shape[-1]
        x = conv(width, 3, self.stride, groups=width, name="depthwise")(nn.relu(x))
        x = nn.relu(norm(name="depthwise_bn")(x))
        return norm(name="pointwise_bn")(conv(self.channels, 1, name="pointwise")(x))


class MobileNet(nn.Module):
    """A stem of 16 channels and separable convolutions: 64; 128, 128; 256, 256.

    The groups of 128 and 256 start with stride 2.

    Features: `pre` are the outputs of the batch norms that end the three groups, `post`
    their ReLUs.

    Differs from the original in: strided convolutions pad on every side, where
    TensorFlow pads below and on the right; batch norms have an epsilon of 1e-5, and in
    evaluation their running statistics, where KD-SVD has 1e-3 and always the batch's.
    That the stem has stride 2 for 64x64 images, as the slides' WResNet has, is our
    reading.

    Attributes:
      num_classes: size of the logits.
      stem_stride: step of the first convolution; 2 brings 64x64 images to 32x32.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    num_classes: int
    stem_stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = "mhgd_mobilenet[@64]"
    STANDARD = ("mhgd_mobilenet",)

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, int] | None:
        """Knows one name; returns None if it is another's."""
        if name != "mhgd_mobilenet" or image_size > 64:
            return None
        return {"stem_stride": image_size // 32}

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` the path of the batch norm it comes out of."""
        blocks = ("group1_block0", "group2_block1", "group3_block1")
        return tuple((block, "pointwise_bn") for block in blocks)

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""
        settings = dict(dtype=self.dtype, axis_name=self.axis_name)
        x = layers.convolution(16, 3, self.stem_stride, dtype=self.dtype, name="stem")(
            image
        )
        x = layers.batch_norm(train, name="stem_bn", **settings)(x)
        stem, pre = nn.relu(x), []
        for group, blocks in enumerate((1, 2, 2), start=1):
            for block in range(blocks):
                x = Separable(
                    64 * 2 ** (group - 1),
                    stride=2 if block == 0 and group > 1 else 1,
                    name=f"group{group}_block{block}",
                    **settings,
                )(x, train)
            pre.append(x)
        post = tuple(map(nn.relu, pre))
        pooled = layers.global_average(post[-1])
        logits = layers.classifier(self.num_classes, dtype=pooled.dtype)(pooled)
        return logits, Features(stem, post, tuple(pre), pooled)
