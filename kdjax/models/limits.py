"""Limits of the numbers in a network's name."""

#: Depth of the deepest published network, the ResNet-1202 of He et al., "Deep Residual
#: Learning for Image Recognition" (CVPR 2016).
_DEEPEST = 1202

#: Largest factor on the widths of a WRN, most channels that a PyramidNet adds, and most
#: channels of a vision transformer; published are 20, 450 and 6144.
_WIDEST = {"widen": 64, "alpha": 2048, "width": 8192}


def check(name: str, depth: int, **width: int) -> None:
    """Rejects networks that would be minutes in the making, or fit no memory.

    Args:
      name: of the network.
      depth: number of its layers.
      **width: `widen`, `alpha` or `width`.

    Raises:
      ValueError: if a number is larger than that of any network worth training.
    """
    for kind, number in {"depth": depth, **width}.items():
        most = _WIDEST.get(kind, _DEEPEST)
        if number > most:
            raise ValueError(f"{name!r} has {kind} {number}, which is more than {most}")
