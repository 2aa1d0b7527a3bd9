"""VGG networks of the CIFAR-100 benchmark, with batch norms: `vgg<depth>[@64]`.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition" (ICLR 2015), for small images; original in PyTorch: RepDistiller,
`models/vgg.py` (`vgg8_bn` to `vgg19_bn`).
"""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers
from kdjax.models.features import Features

#: Channels of the five blocks.
_WIDTHS = (64, 128, 256, 512, 512)

#: Convolutions in each block, by the network's depth.
_DEPTHS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}

#: Pools between the blocks, by the size of the images: both end at 4x4.
_POOLS = {32: 3, 64: 4}


class VGG(nn.Module):
    """Five blocks of 3x3 convolutions with biases, batch norms and ReLUs.

    A 2x2 max pool follows each of the first three blocks, and of 64x64 images the
    fourth one too; the last map is averaged as a whole and classified by one linear
    layer.

    Features: `stem` is the output of the first block; `pre` are the outputs of the
    batch norms that end the other four, `post` their ReLUs, all before the pool: 64
    channels at 32x32, then 128 at 16x16, 256 at 8x8, 512 at 4x4, 512 at 4x4.

    Differs from the original in: whether the fourth block is pooled is fixed by the
    network's name; there the height of each batch of images decides.

    Attributes:
      convolutions: their number in each of the five blocks.
      num_classes: size of the logits.
      pools: blocks, from the first, that a pool follows.
      dtype: type of the computation.
      axis_name: device axis of synchronized batch norms, or None.
    """

    convolutions: tuple[int, ...]
    num_classes: int
    pools: int = 3
    dtype: Any = jnp.float32
    axis_name: str | None = None

    NAMES = "vgg<depth>[@64] with depth 8, 11, 13, 16 or 19"
    STANDARD = ("vgg8", "vgg11", "vgg13", "vgg16", "vgg19")

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, Any] | None:
        """Looks up the blocks of a network's name; None if it is another's."""
        match = re.fullmatch(r"vgg(\d+)", name)
        if not match or int(match[1]) not in _DEPTHS or image_size not in _POOLS:
            return None
        return {"convolutions": _DEPTHS[int(match[1])], "pools": _POOLS[image_size]}

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` the path of the batch norm it comes out of."""
        return tuple(
            (f"block{block}_bn{number - 1}",)
            for block, number in enumerate(self.convolutions)
            if block
        )

    def torch_modules(self, path: tuple[str, ...]) -> dict[str, str]:
        """Names the module at a path in the layout of RepDistiller and mdistiller."""
        if path == ("classifier",):
            return {"repdistiller": "classifier"}
        block, kind, index = re.fullmatch(r"block(\d)_(\w+?)(\d+)", path[0]).groups()
        # A block is a sequence of convolution, batch norm, ReLU, convolution ...
        number = 3 * int(index) + (kind == "bn")
        return {"repdistiller": f"block{block}.{number}"}

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""
        conv, norm = layers.conv_and_norm(self, train, use_bias=True)
        x = image
        pre, post = [], []
        blocks = zip(_WIDTHS, self.convolutions, strict=True)
        for block, (width, number) in enumerate(blocks):
            for index in range(number):
                x = conv(width, 3, name=f"block{block}_conv{index}")(x)
                normalized = norm(name=f"block{block}_bn{index}")(x)
                x = nn.relu(normalized)
            pre.append(normalized)
            post.append(x)
            if block < self.pools:
                x = nn.max_pool(x, (2, 2), (2, 2))
        pooled = layers.global_average(x)
        logits = layers.classifier(
            self.num_classes,
            kernel_init=nn.initializers.normal(0.01),
            dtype=pooled.dtype,
        )(pooled)
        return logits, Features(post[0], tuple(post[1:]), tuple(pre[1:]), pooled)
