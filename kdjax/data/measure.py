"""Measures the mean and standard deviation of the colors of a data set.

    python -m kdjax.data.measure --name=folder --data_dir=DIR --image_size=64

Prints those of the training images, in units of pixels 0..255, as overrides of
`config.data.mean` and `config.data.std` for the command line of a training.
"""

import argparse
import math
from collections.abc import Sequence

import numpy as np

from kdjax.cli import command_line
from kdjax.config import fields
from kdjax.data import datasets, flags
from kdjax.data.normalization import Normalization
from kdjax.data.split import LazySplit, Split
from kdjax.runs import console

#: Fields that the command has flags for.
_FLAGS = ("data_dir", "image_size", "bad_images", "test_fraction")

_BLOCK = 1000  # Images converted to float64 at once.


def measure(split: Split | LazySplit) -> Normalization:
    """Returns the mean and standard deviation of each color over all pixels."""
    total, squares = np.zeros(3), np.zeros(3)
    for start in range(0, split.num_examples, _BLOCK):
        indices = np.arange(start, min(start + _BLOCK, split.num_examples))
        pixels = split.pixels(indices).reshape(-1, 3).astype(np.float64)
        total += pixels.sum(0)
        squares += (pixels**2).sum(0)
    count = split.num_examples * math.prod(split.image_shape[:2])
    mean = total / count
    # Rounding may give a negative variance for images of one color.
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return Normalization(tuple(mean.tolist()), tuple(std.tolist()))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 2 after an error of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m kdjax.data.measure",
        description="Measures the mean and standard deviation of the colors of the"
        " training images and prints them as overrides of a configuration.",
        epilog="example: python -m kdjax.data.measure --name=folder --data_dir=DIR"
        " --image_size=64",
    )
    names = f"data set: {', '.join(datasets.NAMES)}"
    parser.add_argument("--name", required=True, help=names)
    flags.add(parser, _FLAGS)
    args = parser.parse_args(argv)
    data = fields.default().data
    data.name = args.name
    try:
        flags.apply(args, _FLAGS, data)
        found = measure(datasets.load(data).train)
    except (ValueError, OSError) as error:
        console.print_error("measure", error)
        return 2
    print(
        " ".join(
            f'"--config.data.{name}=({", ".join(f"{value:.4f}" for value in values)})"'
            for name, values in found._asdict().items()
        )
    )
    return 0


if __name__ == "__main__":
    command_line.run(main)
