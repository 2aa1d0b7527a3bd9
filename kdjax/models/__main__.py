"""Prints a table of the networks: what each costs and which features it returns.

    python -m kdjax.models [NAME ...] [--classes=K]

Without names, those of the published tables. Parameters and multiply-adds are those of
one image of the size that the network is made for, with the classes of the data set
that images of this size come from: 100 for 32x32 (CIFAR-100), 200 for 64x64
(TinyImageNet), 1000 for 224x224 (ImageNet).

Features are written channels@size: the stem, the stages, the pooled vector. Margins of
the overhaul method come from batch norms (bn), or have to be measured (data).
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence

from kdjax import models
from kdjax.cli import command_line
from kdjax.models import cost

#: Classes of the data set that images of a size come from.
_CLASSES = {32: 100, 64: 200, 224: 1000}

#: Columns and their widths; names are as wide as the longest, features end the line.
_COLUMNS = {"size": 4, "parameters": 10, "GMACs": 7, "margins": 7}


def row(name: str, classes: int | None = None) -> dict[str, str]:
    """Describes one network, without computing anything with it.

    Args:
      name: for `models.build`.
      classes: size of the logits; None for that of the usual data set.

    Raises:
      ValueError: if there is no such network.
    """
    size = models.image_size(name) or 32
    network = models.build(name, classes or _CLASSES[size])
    found = cost.of(network, (size, size, 3))
    stages = (found.features.stem, *found.features.block)
    try:
        network.margin_batch_norms()
        margins = "bn"
    except ValueError:
        margins = "data"
    return {
        "network": name,
        "size": str(size),
        "parameters": f"{found.parameters:,}",
        "GMACs": f"{found.multiply_adds / 1e9:.4f}",
        "margins": margins,
        "features": " ".join(
            [f"{x.shape[-1]}@{x.shape[1]}" for x in stages]
            + [str(found.features.pooled.shape[-1])]
        ),
    }


def _line(cells: dict[str, str], width: int) -> str:
    numbers = [f"{cells[name]:>{width}}" for name, width in _COLUMNS.items()]
    return "  ".join([f"{cells['network']:<{width}}", *numbers, cells["features"]])


def _indented(text: str) -> str:
    return textwrap.fill(text, 88, initial_indent="  ", subsequent_indent="    ")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status, 2 where the user erred."""
    summary, _, *notes = __doc__.strip().split("\n\n")
    parser = argparse.ArgumentParser(
        prog="kdjax.models",
        description=summary,
        epilog="\n\n".join(
            [*notes, "\n".join(["Known networks:", *map(_indented, models.known())])]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="networks; else the published ones")
    parser.add_argument("--classes", type=int, help="size of the logits")
    args = parser.parse_args(argv)
    names = args.names or models.STANDARD
    width = max(map(len, [*names, "network"]))
    try:
        # A typing error in the last name is found before the first line.
        for name in names:
            models.build(name, 1)
        head = {name: name for name in ("network", *_COLUMNS, "features")}
        print(_line(head, width))
        for name in names:
            print(_line(row(name, args.classes), width), flush=True)
    except ValueError as error:
        print("kdjax.models:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
