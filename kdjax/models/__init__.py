"""Networks by name: one file a family, all with the same answer.

`logits, features = model.apply(variables, image, train=...)`, with image
[B, H, W, 3] float and normalised, logits [B, K], and `Features` as in `features.py`.
"""

import flax.linen as nn

from kdjax.models import resnet, wide_resnet
from kdjax.models.features import Features

__all__ = ["Features", "build", "margin_batch_norms"]

#: A family reads its settings from a name (`parse`) and describes the names it knows.
_FAMILIES = (wide_resnet.WideResNet, resnet.ResNet)


def build(name: str, num_classes: int, **kwargs) -> nn.Module:
    """Builds the network called `name`.

    Args:
      name: for example "wrn_16_2" or "resnet56".
      num_classes: size of the logits.
      **kwargs: `dtype` of the computation, `axis_name` of synchronised batch norms.

    Raises:
      ValueError: if no family knows the name.
    """
    for family in _FAMILIES:
        if (settings := family.parse(name)) is not None:
            return family(num_classes=num_classes, **settings, **kwargs)
    known = "; ".join(family.NAMES for family in _FAMILIES)
    raise ValueError(f"no network is called {name!r}; known are {known}")


def margin_batch_norms(name: str) -> tuple[tuple[str, ...], ...]:
    """Returns for each `pre` feature the path of the batch norm giving its margin.

    The paths lead through the network's parameters and end in `scale` and `bias`.
    """
    return build(name, num_classes=1).margin_batch_norms()
