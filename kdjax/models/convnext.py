"""ConvNeXts, `convnext_<size>`: convolutional networks in the manner of transformers.

Source: Liu et al., "A ConvNet for the 2020s" (CVPR 2022), whose sizes are `tiny`,
`small` and `base`; `atto`, `femto`, `pico` and `nano` are the smaller ones of timm.
Originals in PyTorch: facebookresearch/ConvNeXt, `models/convnext.py`; torchvision,
`models/convnext.py`; timm, `convnext.py`.

The first convolution takes patches of 4x4 pixels with `@224` and `@64`, and of 2x2
without a suffix, for images of 32x32, on which no published network has this form.
"""

import re
from typing import Any, NamedTuple, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers
from kdjax.models.features import Features


class _Size(NamedTuple):
    """One size.

    Attributes:
      width: channels of the first stage, which the others double.
      depths: blocks in each stage.
      convolutions: whether the layers of a block that mix channels are 1x1
        convolutions in timm, which decides the shapes of their kernels there.
    """

    width: int
    depths: tuple[int, ...]
    convolutions: bool = False


_SIZES = {
    "atto": _Size(40, (2, 2, 6, 2), True),
    "femto": _Size(48, (2, 2, 6, 2), True),
    "pico": _Size(64, (2, 2, 6, 2), True),
    "nano": _Size(80, (2, 2, 8, 2), True),
    "tiny": _Size(96, (3, 3, 9, 3)),
    "small": _Size(96, (3, 3, 27, 3)),
    "base": _Size(128, (3, 3, 27, 3)),
}

#: Height and width of a patch by the size of the images.
_PATCHES = {32: 2, 64: 4, 224: 4}

#: N(0, 0.02); the original's truncation, at a hundred standard deviations, changes
#: nothing.
_normal = nn.initializers.normal(0.02)

#: PyTorch's names in each layout: of what is in no stage, of the layers between stages,
#: which have the number of the stage that they lead to, and of a block's.
_NAMES = {
    "timm": {
        "stem": "stem.0",
        "stem_norm": "stem.1",
        "norm": "head.norm",
        "classifier": "head.fc",
    },
    "torchvision": {
        "stem": "features.0.0",
        "stem_norm": "features.0.1",
        "norm": "classifier.0",
        "classifier": "classifier.2",
    },
    "convnext": {
        "stem": "downsample_layers.0.0",
        "stem_norm": "downsample_layers.0.1",
        "norm": "norm",
        "classifier": "head",
    },
}
_BETWEEN = {
    "timm": "stages.{stage}.downsample",
    "torchvision": "features.{twice}",
    "convnext": "downsample_layers.{stage}",
}
_BLOCK = {
    "timm": "stages.{stage}.blocks.{block}",
    "torchvision": "features.{next}.{block}",
    "convnext": "stages.{stage}.{block}",
}
_BLOCK_NAMES = {
    "timm": {
        "depthwise": "conv_dw",
        "norm": "norm",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
        "layer_scale": "gamma",
    },
    "torchvision": {
        "depthwise": "block.0",
        "norm": "block.2",
        "fc1": "block.3",
        "fc2": "block.5",
        "layer_scale": "layer_scale",
    },
    "convnext": {
        "depthwise": "dwconv",
        "norm": "norm",
        "fc1": "pwconv1",
        "fc2": "pwconv2",
        "layer_scale": "gamma",
    },
}


def _convolution(channels: int, size: int, stride: int = 1, **settings) -> nn.Conv:
    """Returns a convolution with biases: patches, or a map of the same size."""
    padding = "VALID" if stride > 1 else "SAME"
    return nn.Conv(
        channels,
        (size, size),
        (stride, stride),
        padding=padding,
        kernel_init=_normal,
        **settings,
    )


class Block(nn.Module):
    """Depthwise 7x7, layer norm, two layers of channels and a scale; and the input.

    The first of the two layers has four times the channels and a GELU. The scale of
    each channel starts at 1e-6.
    """

    dtype: Any
    stochastic_depth: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to the same shape."""
        channels = x.shape[-1]

        def mix(width, name):
            return nn.Dense(width, kernel_init=_normal, dtype=self.dtype, name=name)

        y = _convolution(
            channels,
            7,
            feature_group_count=channels,
            dtype=self.dtype,
            name="depthwise",
        )(x)
        y = layers.layer_norm(dtype=self.dtype, name="norm")(y)
        y = mix(channels, "fc2")(layers.gelu(mix(4 * channels, "fc1")(y)))
        scale = self.param("layer_scale", nn.initializers.constant(1e-6), (channels,))
        # One draw an example.
        return x + nn.Dropout(
            self.stochastic_depth, broadcast_dims=(1, 2, 3), deterministic=not train
        )(y * scale.astype(y.dtype)[None, None, None])


class ConvNeXt(nn.Module):
    """Patches, four stages, each but the first behind a layer norm and 2x2 patches.

    Features: `pre` are the sums that end the stages (96, 192, 384 and 768 channels of
    `convnext_tiny`, at 56, 28, 14 and 7 pixels, or 16, 8, 4 and 2 of a small image). No
    ReLU follows a sum, so `post` and `block` are the same maps. `stem` are the patches
    after their layer norm. A layer norm stands between the average of the last map and
    the classifier: `pooled` is its output, and `last` None.

    Attributes:
      size: widths and depths.
      num_classes: size of the logits.
      patch: height and width of the first convolution's patches.
      dtype: type of the computation.
      axis_name: unused; there are no batch norms.
      stochastic_depth: rate at which the last block's branch is left out, example by
        example; those before at rates that rise linearly from 0 in the first, as in the
        original, which has 0.1 for `tiny`. In training branches are scaled up.
    """

    size: _Size
    num_classes: int
    patch: int = 2
    dtype: Any = jnp.float32
    axis_name: str | None = None
    stochastic_depth: float = 0.0

    RATES = ("stochastic_depth",)
    NAMES = f"convnext_<size>[@64|@224] with size {', '.join(_SIZES)}"
    STANDARD = ("convnext_atto", "convnext_tiny", "convnext_tiny@224")

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, Any] | None:
        """Looks a network's name up; None if it is another's."""
        family, _, size = name.partition("_")
        if family != "convnext" or size not in _SIZES or image_size not in _PATCHES:
            return None
        return {"size": _SIZES[size], "patch": _PATCHES[image_size]}

    def margin_batch_norms(self) -> NoReturn:
        """Raises a ValueError: there are no batch norms."""
        raise ValueError(
            "ConvNeXts have no batch norms: they need "
            "methods.overhaul.margin='measured'"
        )

    def torch_modules(self, path: tuple[str, ...]) -> dict[str, str]:
        """Names the module, or the parameter of none, at a path in each layout.

        "convnext" is that of the authors.
        """
        layouts = tuple(_NAMES)
        if path[0] in _NAMES["timm"]:
            return {layout: _NAMES[layout][path[0]] for layout in layouts}
        stage, block = re.fullmatch(r"stage(\d)(?:_block(\d+))?", path[0]).groups()
        # torchvision numbers the stages and what is between them together.
        numbers = {"stage": stage, "twice": 2 * int(stage), "next": 2 * int(stage) + 1}
        if block is None:
            part = {"norm": "0", "patches": "1"}[path[1]]
            return {x: f"{_BETWEEN[x].format(**numbers)}.{part}" for x in layouts}
        return {
            x: f"{_BLOCK[x].format(block=block, **numbers)}.{_BLOCK_NAMES[x][path[1]]}"
            for x in layouts
        }

    def torch_axes_behind(self, path: tuple[str, ...], layout: str) -> int:
        """Counts axes of length 1 that an array in PyTorch has behind those here."""
        if layout == "torchvision":
            return 2 * (path[-1] == "layer_scale")
        convolution = path[-2:] in (("fc1", "kernel"), ("fc2", "kernel"))
        return 2 * (convolution and layout == "timm" and self.size.convolutions)

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""
        width, depths, _ = self.size
        x = _convolution(width, self.patch, self.patch, dtype=self.dtype, name="stem")(
            image
        )
        stem = x = layers.layer_norm(dtype=self.dtype, name="stem_norm")(x)
        stages, count = [], 0
        for stage, depth in enumerate(depths):
            if stage:
                x = Between(2**stage * width, dtype=self.dtype, name=f"stage{stage}")(x)
            for block in range(depth):
                x = Block(
                    dtype=self.dtype,
                    stochastic_depth=self.stochastic_depth * count / (sum(depths) - 1),
                    name=f"stage{stage}_block{block}",
                )(x, train)
                count += 1
            stages.append(x)
        average = layers.global_average(x)
        pooled = layers.layer_norm(dtype=average.dtype, name="norm")(average)
        logits = layers.classifier(
            self.num_classes, kernel_init=_normal, dtype=pooled.dtype
        )(pooled)
        stages = tuple(stages)
        return logits, Features(stem, stages, stages, pooled, last=None)


class Between(nn.Module):
    """Layer norm and patches of 2x2, which lead to the next stage."""

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H/2, W/2, channels]."""
        x = layers.layer_norm(dtype=self.dtype, name="norm")(x)
        return _convolution(self.channels, 2, 2, dtype=self.dtype, name="patches")(x)
