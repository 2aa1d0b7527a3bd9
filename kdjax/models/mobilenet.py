"""The MobileNet student of MHGD, `mhgd_mobilenet`.

Source: Lee and Song, "Graph-based Knowledge Distillation by Multi-head Attention
Network" (BMVC 2019), by the layers on its slides; the batch norms, which the slides do
not show, stand as in the MobileNet of their KD-SVD (ECCV 2018, sseung0703/SSKD_SVD).
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers
from kdjax.models.features import Features


class Separable(nn.Module):
    """ReLU, depthwise 3x3, BN, ReLU, 1x1, BN; the last ReLU is the next block's."""

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
      axis_name: device axis of synchronised batch norms, or None.
    """

    num_classes: int
    stem_stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = "mhgd_mobilenet[@64]"

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, int] | None:
        """Knows one name; returns None if it is another's."""
        if name != "mhgd_mobilenet":
            return None
        return {"stem_stride": image_size // 32}

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` the path of the batch norm it comes out of."""
        blocks = ("group1_block0", "group2_block1", "group3_block1")
        return tuple((block, "pointwise_bn") for block in blocks)

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalised images: [B, K] logits and features."""
        settings = dict(dtype=self.dtype, axis_name=self.axis_name)
        x = layers.convolution(16, 3, self.stem_stride, dtype=self.dtype, name="stem")(
            image
        )
        x = layers.batch_norm(train, name="stem_bn", **settings)(x)
        pre = []
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
        return logits, Features(post, tuple(pre), pooled)
