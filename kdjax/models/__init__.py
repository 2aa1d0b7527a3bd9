"""Networks by name: one file a family, all with the same answer.

`logits, features = model.apply(variables, image, train=...)`, with image
[B, H, W, 3] float and normalised, logits [B, K], and `Features` as in `features.py`.

A name that ends in `@64` means the form of a network made for 64x64 images; without a
suffix it is the one for 32x32.
"""

import flax.linen as nn

from kdjax.models import mobilenet, resnet, vgg, wide_resnet
from kdjax.models.features import Features

__all__ = ["Features", "build", "margin_batch_norms"]

#: A family reads its settings from a name without suffix and the size of the images
#: (`parse`), and describes the names it knows (`NAMES`).
_FAMILIES = (
    wide_resnet.WideResNet,
    resnet.ResNet,
    vgg.VGG,
    vgg.StridedVGG,
    mobilenet.MobileNet,
)

#: Height and width of the images that a network is made for, by the name's suffix.
_IMAGE_SIZES = {"": 32, "@64": 64}


def build(name: str, num_classes: int, **kwargs) -> nn.Module:
    """Builds the network called `name`.

    Args:
      name: for example "wrn_16_2", "resnet56" or "mhgd_vgg7@64".
      num_classes: size of the logits.
      **kwargs: `dtype` of the computation, `axis_name` of synchronised batch norms.

    Raises:
      ValueError: if no family knows the name.
    """
    base, mark, size = name.partition("@")
    image_size = _IMAGE_SIZES.get(mark + size)
    for family in _FAMILIES if image_size else ():
        if (settings := family.parse(base, image_size)) is not None:
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
