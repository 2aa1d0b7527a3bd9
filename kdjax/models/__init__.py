"""Networks by name: one file a family, all with the same outputs.

`logits, features = model.apply(variables, image, train=...)`, with image
[B, H, W, 3] float and normalized, logits [B, K], and `Features` as in `features.py`.

A name that ends in `@64` or `@224` means the form of a network made for images of that
height and width; without a suffix it is the one for 32x32.
"""

import difflib
from typing import Any, ClassVar, Protocol

import flax.linen as nn
import jax

from kdjax.models import (
    convnext,
    mhgd_networks,
    mobilenet,
    mobilenet_v2,
    pyramidnet,
    resnet,
    shufflenet,
    shufflenet_v2,
    vgg,
    vision_transformer,
    wide_resnet,
)
from kdjax.models.features import Features

__all__ = [
    "STANDARD",
    "Family",
    "Features",
    "build",
    "image_size",
    "known",
    "margin_batch_norms",
    "rates",
]


class Family(Protocol):
    """Interface of a family of networks: a Linen module with these members.

    A family that PyTorch code has weights for also has
    `torch_modules(path) -> dict[str, str]`, which names the module at a path of the
    variables in each of the layouts that such code has. A parameter of no layer has a
    path of its own; a name that ends in an underscore goes on without a dot. Where
    PyTorch's arrays have axes of length 1 behind, `torch_axes_behind(path, layout)`
    counts them.

    Attributes:
      NAMES: describes the names that the family knows, for errors and help.
      STANDARD: the names in published tables.
      RATES: numbers in [0, 1) that a network can be built with and that change what it
        does in training, not its variables and not what it does at inference. What it
        drops depends on the stream `dropout` of random numbers.
    """

    NAMES: ClassVar[str]
    STANDARD: ClassVar[tuple[str, ...]]
    RATES: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, num_classes: int, dtype: Any, axis_name: str | None): ...

    @classmethod
    def parse(cls, name: str, image_size: int) -> dict[str, Any] | None:
        """Reads a network's settings from its name; None if it is another family's.

        Args:
          name: without the suffix of the size.
          image_size: height and width of the images that it is made for.

        Raises:
          ValueError: if the network would be senselessly large.
        """

    def margin_batch_norms(self) -> tuple[tuple[str, ...], ...]:
        """Returns for each `pre` feature the path of the batch norm giving its margin.

        Raises:
          ValueError: if no batch norm does.
        """

    def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, Features]:
        """Classifies [B, H, W, 3] normalized images: [B, K] logits and features."""


_FAMILIES: tuple[type[Family], ...] = (
    wide_resnet.WideResNet,
    resnet.ResNet,
    pyramidnet.PyramidNet,
    vgg.VGG,
    mobilenet.MobileNet,
    mobilenet_v2.MobileNetV2,
    shufflenet.ShuffleNet,
    shufflenet_v2.ShuffleNetV2,
    vision_transformer.VisionTransformer,
    convnext.ConvNeXt,
    mhgd_networks.VGG,
    mhgd_networks.StridedVGG,
    mhgd_networks.MobileNet,
)

#: The networks of the published tables, by family.
STANDARD: tuple[str, ...] = tuple(
    name for family in _FAMILIES for name in family.STANDARD
)

#: Height and width of the images that a network is made for, by suffix of the name.
_IMAGE_SIZES = {"": 32, "@64": 64, "@224": 224}

_LONGEST_NAME = 64


def image_size(name: str) -> int | None:
    """Returns height and width of the images a network is made for, by its name.

    None if the name ends in a size that no network is made for.
    """
    _, mark, size = name.partition("@")
    return _IMAGE_SIZES.get(mark + size)


def known() -> tuple[str, ...]:
    """Returns a description of the names that each family knows."""
    return tuple(family.NAMES for family in _FAMILIES)


def build(name: str, num_classes: int, **kwargs) -> nn.Module:
    """Builds the network called `name`.

    Args:
      name: for example "wrn_16_2", "resnet56" or "mhgd_vgg7@64".
      num_classes: size of the logits.
      **kwargs: `dtype` of the computation, `axis_name` of synchronized batch norms,
        and the family's `RATES`.

    Raises:
      ValueError: if no family knows the name, or the network would be senselessly
        large.
    """
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"no network is called {name[:_LONGEST_NAME]!r}...")
    base, size = name.partition("@")[0], image_size(name)
    for family in _FAMILIES if size else ():
        if (settings := family.parse(base, size)) is not None:
            return family(num_classes=num_classes, **settings, **kwargs)
    close = difflib.get_close_matches(name, STANDARD, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"no network is called {name!r}; known are {'; '.join(known())}{hint}"
    )


def rates(name: str) -> tuple[str, ...]:
    """Returns the `RATES` of a network's family, by the network's name."""
    return getattr(build(name, num_classes=1), "RATES", ())


def margin_batch_norms(name: str) -> tuple[tuple[str, ...], ...]:
    """Returns for each `pre` feature the path of the batch norm giving its margin.

    The paths lead through the network's parameters and end in `scale` and `bias`.

    Raises:
      ValueError: if the network has no batch norms.
    """
    return build(name, num_classes=1).margin_batch_norms()
