"""Networks by name: one file a family, all with the same answer.

`logits, features = model.apply(variables, image, train=...)`, with image
[B, H, W, 3] float and normalized, logits [B, K], and `Features` as in `features.py`.

A name that ends in `@64` or `@224` means the form of a network made for images of that
height and width; without a suffix it is the one for 32x32.
"""

import flax.linen as nn

from kdjax.models import (
    mhgd_networks,
    mobilenet,
    mobilenet_v2,
    pyramidnet,
    resnet,
    shufflenet,
    shufflenet_v2,
    vgg,
    wide_resnet,
)
from kdjax.models.features import Features

__all__ = ["STANDARD", "Features", "build", "image_size", "margin_batch_norms"]

#: A family reads its settings from a name without suffix and the size of the images
#: (`parse`), describes the names it knows (`NAMES`), and lists those of the published
#: tables (`STANDARD`). Where PyTorch code keeps such networks, `torch_modules` names
#: the module at a path of the variables in each of the layouts that such code has.
_FAMILIES = (
    wide_resnet.WideResNet,
    resnet.ResNet,
    pyramidnet.PyramidNet,
    vgg.VGG,
    mobilenet.MobileNet,
    mobilenet_v2.MobileNetV2,
    shufflenet.ShuffleNet,
    shufflenet_v2.ShuffleNetV2,
    mhgd_networks.VGG,
    mhgd_networks.StridedVGG,
    mhgd_networks.MobileNet,
)

#: The networks of the published tables, by family.
STANDARD: tuple[str, ...] = tuple(
    name for family in _FAMILIES for name in family.STANDARD
)

#: Height and width of the images that a network is made for, by the name's suffix.
_IMAGE_SIZES = {"": 32, "@64": 64, "@224": 224}


def image_size(name: str) -> int | None:
    """Returns height and width of the images a network is made for, by its name.

    None if the name ends in a size that no network is made for.
    """
    _, mark, size = name.partition("@")
    return _IMAGE_SIZES.get(mark + size)


def build(name: str, num_classes: int, **kwargs) -> nn.Module:
    """Builds the network called `name`.

    Args:
      name: for example "wrn_16_2", "resnet56" or "mhgd_vgg7@64".
      num_classes: size of the logits.
      **kwargs: `dtype` of the computation, `axis_name` of synchronized batch norms.

    Raises:
      ValueError: if no family knows the name.
    """
    base, size = name.partition("@")[0], image_size(name)
    for family in _FAMILIES if size else ():
        if (settings := family.parse(base, size)) is not None:
            return family(num_classes=num_classes, **settings, **kwargs)
    known = "; ".join(family.NAMES for family in _FAMILIES)
    raise ValueError(f"no network is called {name!r}; known are {known}")


def margin_batch_norms(name: str) -> tuple[tuple[str, ...], ...]:
    """Returns for each `pre` feature the path of the batch norm giving its margin.

    The paths lead through the network's parameters and end in `scale` and `bias`.

    Raises:
      ValueError: if the network has no batch norms.
    """
    return build(name, num_classes=1).margin_batch_norms()
