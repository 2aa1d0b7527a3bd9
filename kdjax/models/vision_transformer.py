"""Vision transformers: `deit_<size>[_distilled]`, `vit_<size>`, `vit_<depth>_<width>`.

Sources: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image
Recognition at Scale" (ICLR 2021); Touvron et al., "Training Data-efficient Image
Transformers & Distillation through Attention" (ICML 2021), whose sizes are `tiny`,
`small` and `base`, and whose `_distilled` networks have a second token and a second
classifier. Originals in PyTorch: facebookresearch/deit, `models.py`, and timm,
`vision_transformer.py` and `deit.py`.

`vit_tiny` and `deit_tiny` are one network under the two names that timm has for it:
published weights of either were trained otherwise. `vit_<depth>_<width>[_distilled]`
has any number of blocks and of channels, a multiple of 64: `vit_12_192` is `vit_tiny`.

Patches are of 16x16 pixels with `@224`, as in the names of timm that end in
`patch16_224`; of 8x8 with `@64` and of 4x4 without a suffix, both of which make 8x8
patches of an image.
"""

import re
from typing import Any, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models import layers, limits
from kdjax.models.features import Features

#: Channels of each size, of 12 blocks.
_WIDTHS = {"tiny": 192, "small": 384, "base": 768}

#: Height and width of a patch, and number of stages, by the size of the images.
_PATCHES = {32: (4, 3), 64: (8, 3), 224: (16, 4)}

#: Channels of one head, in all published sizes.
_HEAD = 64

#: N(0, 0.02), of linear layers, tokens and positions. The original's truncation, at a
#: hundred standard deviations, changes nothing.
_normal = nn.initializers.normal(0.02)

#: PyTorch's names of what is no layer's, and of the layers, in each layout.
#: `torchvision` is that of its code since 0.12, `torchvision_v1` that of its files.
_TORCHVISION = {
    "class_token": "class_token",
    "position_embedding": "encoder.pos_embedding",
    "patch_embedding": "conv_proj",
    "norm": "encoder.ln",
    "classifier": "heads.head",
}
_TORCHVISION_BLOCK = {
    "norm1": "ln_1",
    "qkv": "self_attention.in_proj_",
    "projection": "self_attention.out_proj",
    "norm2": "ln_2",
}
_NAMES = {
    "timm": {
        "class_token": "cls_token",
        "distillation_token": "dist_token",
        "position_embedding": "pos_embed",
        "patch_embedding": "patch_embed.proj",
        "norm": "norm",
        "classifier": "head",
        "distillation_classifier": "head_dist",
    },
    "torchvision": _TORCHVISION,
    "torchvision_v1": _TORCHVISION,
}
_BLOCK_NAMES = {
    "timm": {
        "norm1": "norm1",
        "qkv": "attn.qkv",
        "projection": "attn.proj",
        "norm2": "norm2",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
    },
    "torchvision": {**_TORCHVISION_BLOCK, "fc1": "mlp.0", "fc2": "mlp.3"},
    "torchvision_v1": {
        **_TORCHVISION_BLOCK,
        "fc1": "mlp.linear_1",
        "fc2": "mlp.linear_2",
    },
}
_BLOCKS = {
    "timm": "blocks",
    "torchvision": "encoder.layers.encoder_layer",
    "torchvision_v1": "encoder.layers.encoder_layer",
}


class Block(nn.Module):
    """Layer norm, self-attention, and the input; layer norm, two layers, and the input.

    The first of the two layers has four times the channels and a GELU. Dropout follows
    every linear layer but that of queries, keys and values.
    """

    dtype: Any
    dropout: float = 0.0
    stochastic_depth: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps tokens [B, N, C] to tokens of the same shape."""
        width = x.shape[-1]

        def linear(channels, name):
            return nn.Dense(channels, kernel_init=_normal, dtype=self.dtype, name=name)

        def dropped(y, rate=self.dropout, axes=()):
            return nn.Dropout(rate, broadcast_dims=axes, deterministic=not train)(y)

        def add(x, branch):
            # One draw an example.
            return x + dropped(branch, self.stochastic_depth, (1, 2))

        y = layers.layer_norm(dtype=self.dtype, name="norm1")(x)
        y = attention(linear(3 * width, "qkv")(y), width // _HEAD)
        x = add(x, dropped(linear(width, "projection")(y)))
        y = layers.layer_norm(dtype=self.dtype, name="norm2")(x)
        y = dropped(layers.gelu(linear(4 * width, "fc1")(y)))
        return add(x, dropped(linear(width, "fc2")(y)))


def attention(qkv: jax.Array, heads: int) -> jax.Array:
    """Averages values by the softmax of the products of queries and keys.

    Args:
      qkv: queries, keys and values of each token, [B, N, 3C].
      heads: number of groups of channels that are averaged alike.

    Returns:
      [B, N, C]. The softmax is computed in float32 or wider.
    """
    *shape, channels = qkv.shape
    query, key, value = jnp.moveaxis(
        qkv.reshape(*shape, 3, heads, channels // (3 * heads)), 2, 0
    )
    products = jnp.einsum("bqhc,bkhc->bhqk", query * query.shape[-1] ** -0.5, key)
    wide = jnp.promote_types(products.dtype, jnp.float32)
    weight = jax.nn.softmax(products.astype(wide)).astype(value.dtype)
    averaged = jnp.einsum("bhqk,bkhc->bqhc", weight, value)
    return averaged.reshape(*shape, channels // 3)


def resized_positions(table: jax.Array, height: int, width: int) -> jax.Array:
    """Returns the embeddings of the positions in a grid of another size.

    Bicubic interpolation with a = -0.5, as `resample_abs_pos_embed` of timm, which
    widens the kernel where the grid becomes smaller.

    Args:
      table: of a square grid of patches, [1, N, C].
      height: of the grid that is wanted.
      width: of the same.

    Returns:
      [1, height * width, C].
    """
    _, count, channels = table.shape
    side = round(count**0.5)
    if (height, width) == (side, side):
        return table
    table = table.reshape(1, side, side, channels)
    table = jax.image.resize(table, (1, height, width, channels), "cubic")
    return table.reshape(1, height * width, channels)


class VisionTransformer(nn.Module):
    """Patches, a class token, blocks of self-attention, and a layer norm.

    Features: the tokens of the patches as a map, [B, H, W, C], of the same size
    everywhere. `stem` are the patches with their positions; `pre` the sums that end the
    stages, which are as many blocks each as can be: three stages with 32x32 and 64x64
    images, as residual networks for CIFAR have, four with 224x224. No ReLU follows a
    sum, so `post` and `block` are the same maps. `pooled` is the class token after the
    layer norm. The classifier reads no average of a map: `last` is None.

    With `distilled`, `heads` are the logits of the classifier, which reads the class
    token, and those of the second one, which reads the distillation token; the logits
    are their mean.

    The parameters do not depend on the size of the images, which has to be a multiple
    of the patch: positions are interpolated where it is not that of the name. Queries,
    keys and values are of one linear layer.

    Attributes:
      depth: number of blocks.
      width: channels of a token; heads have 64.
      num_classes: size of the logits.
      patch: height and width of a patch.
      grid: patches along each side of the images that the network is made for.
      stages: number of the features `pre`.
      distilled: whether there is a distillation token.
      dtype: type of the computation.
      axis_name: unused; there are no batch norms.
      dropout: rate of the dropout after the positions are added and after every linear
        layer but that of queries, keys and values, as in Dosovitskiy et al.
      stochastic_depth: rate at which both branches of the last block are left out,
        example by example; those before at rates that rise linearly from 0 in the
        first, as in the code of DeiT, which has 0.1. In training branches are scaled
        up.
    """

    depth: int
    width: int
    num_classes: int
    patch: int = 4
    grid: int = 8
    stages: int = 3
    distilled: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None
    dropout: float = 0.0
    stochastic_depth: float = 0.0

    RATES = ("dropout", "stochastic_depth")
    NAMES = (
        "deit_<size>, vit_<size> and vit_<depth>_<width> [_distilled][@64 or @224] "
        "with size tiny, small or base, depth from 4 and width a multiple of 64"
    )
    STANDARD = (
        *("deit_tiny", "deit_tiny_distilled", "deit_small"),
        *("deit_tiny@224", "deit_tiny_distilled@224", "deit_small@224"),
        "vit_base@224",
    )

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, Any] | None:
        """Reads depth and width from a network's name; None if it is another's."""
        match = re.fullmatch(
            r"(?:(?:deit|vit)_(tiny|small|base)|vit_(\d+)_(\d+))(_distilled)?", name
        )
        if not match or image_size not in _PATCHES:
            return None
        size, depth, width, distilled = match.groups()
        depth, width = (12, _WIDTHS[size]) if size else (int(depth), int(width))
        if depth < 4 or width < _HEAD or width % _HEAD:
            return None
        limits.check(name, depth, width=width)
        patch, stages = _PATCHES[image_size]
        return {
            "depth": depth,
            "width": width,
            "patch": patch,
            "grid": image_size // patch,
            "stages": stages,
            "distilled": distilled is not None,
        }

    def margin_batch_norms(self) -> NoReturn:
        """Raises a ValueError: there are no batch norms."""
        raise ValueError(
            "vision transformers have no batch norms: they need "
            "methods.overhaul.margin='measured'"
        )

    def torch_modules(self, path: tuple[str, ...]) -> dict[str, str]:
        """Names the module, or the parameter of none, at a path in each layout.

        "timm" is also that of the code of DeiT. Networks with a distillation token are
        in no other.
        """
        names = {} if self.distilled else _NAMES
        names = names or {"timm": _NAMES["timm"]}
        if len(path) == 1:
            return {layout: known[path[0]] for layout, known in names.items()}
        number = re.fullmatch(r"block(\d+)", path[0])[1]
        return {
            layout: f"{_BLOCKS[layout]}{'.' if layout == 'timm' else '_'}{number}."
            f"{_BLOCK_NAMES[layout][path[1]]}"
            for layout in names
        }

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features.

        Raises:
          ValueError: if height or width is no multiple of the patch.
        """
        x = self._embedded(image)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        size = (image.shape[1] // self.patch, image.shape[2] // self.patch)
        tokens = 2 if self.distilled else 1

        def as_map(x):
            return x[:, tokens:].reshape(x.shape[0], *size, self.width)

        stem, stages = as_map(x), []
        ends = [self.depth * n // self.stages for n in range(1, self.stages + 1)]
        for index in range(self.depth):
            x = Block(
                dtype=self.dtype,
                dropout=self.dropout,
                stochastic_depth=self.stochastic_depth * index / (self.depth - 1),
                name=f"block{index}",
            )(x, train)
            if index + 1 in ends:
                stages.append(as_map(x))
        x = layers.layer_norm(dtype=self.dtype, name="norm")(x[:, :tokens])
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        logits, heads = self._classified(x)
        stages = tuple(stages)
        return logits, Features(stem, stages, stages, x[:, 0], last=None, heads=heads)

    def _embedded(self, image: jax.Array) -> jax.Array:
        """Returns tokens with their positions, [B, N, C], the class token first."""
        height, width = image.shape[1:3]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"this vision transformer needs images whose height and width are "
                f"multiples of its patch, {self.patch}, not {height}x{width}"
            )
        x = nn.Conv(
            self.width,
            (self.patch, self.patch),
            (self.patch, self.patch),
            padding="VALID",
            kernel_init=layers.torch_convolution,
            bias_init=layers.torch_bias(self.patch**2 * image.shape[-1]),
            dtype=self.dtype,
            name="patch_embedding",
        )(image)
        size = x.shape[1:3]
        x = x.reshape(x.shape[0], size[0] * size[1], self.width)
        names = ("class_token", "distillation_token")[: 2 if self.distilled else 1]
        tokens = [self.param(name, _normal, (1, 1, self.width)) for name in names]
        table = self.param(
            "position_embedding", _normal, (1, len(names) + self.grid**2, self.width)
        )
        before, of_patches = jnp.split(table, [len(names)], axis=1)
        before = (before + jnp.concatenate(tokens, axis=1)).astype(x.dtype)
        before = jnp.broadcast_to(before, (x.shape[0], *before.shape[1:]))
        x = x + resized_positions(of_patches, *size).astype(x.dtype)
        return jnp.concatenate([before, x], axis=1)

    def _classified(self, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Returns the logits of the tokens, [B, 1 or 2, C], and those of each head."""
        settings = {"kernel_init": _normal, "dtype": x.dtype}
        logits = layers.classifier(self.num_classes, **settings)(x[:, 0])
        if not self.distilled:
            return logits, ()
        second = nn.Dense(self.num_classes, name="distillation_classifier", **settings)
        heads = logits, second(x[:, 1])
        return sum(heads) / 2, heads
