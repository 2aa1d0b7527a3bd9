"""The heads that methods bring: what the student ends in, also after the training."""

from collections.abc import Mapping

import flax.linen as nn

from kdjax.distill.method import Method
from kdjax.distill.shapes import outputs


def with_head(
    network: nn.Module,
    methods: Mapping[str, Method],
    image_shape: tuple[int, int, int],
    teacher: nn.Module | None,
) -> nn.Module:
    """Returns the student of some methods; the network itself if none brings a head.

    Args:
      network: from `models.build`.
      methods: by the names of their terms.
      image_shape: of the images that it is applied to, [H, W, 3].
      teacher: the network that it learns from; None if no method needs one.

    Raises:
      ValueError: if several methods bring one, or the networks cannot be joined so.
    """
    brought = {name: method for name, method in methods.items() if method.brings_head}
    if len(brought) > 1:
        raise ValueError(
            f"methods={sorted(brought)} each bring a head of the student, which has one"
        )
    for method in brought.values():
        shapes = (outputs(x, image_shape) for x in (network, teacher))
        network = method.with_head(network, *shapes)
    return network


def taken_from_teacher(methods: Mapping[str, Method]) -> tuple[str, ...]:
    """Returns the modules of the student whose parameters are the teacher's, sorted."""
    return tuple(sorted({n for m in methods.values() for n in m.takes_from_teacher}))
