"""Measures the mean and standard deviation of a data set's training images.

    python -m kdjax.data.measure --name=folder --data_dir=DIR --image_size=64

prints them by color, of pixels from 0 to 255, as overrides to paste behind a command.
"""

import argparse
import math
import sys
from collections.abc import Sequence

import numpy as np

from kdjax import config as config_lib
from kdjax.data import datasets
from kdjax.data.normalization import Normalization
from kdjax.data.split import LazySplit, Split

_BLOCK = 1000  # Images squared at a time, in float64.


def measure(split: Split | LazySplit) -> Normalization:
    """Returns the mean and standard deviation of each color over all pixels."""
    total, squares = np.zeros(3), np.zeros(3)
    for start in range(0, split.num_examples, _BLOCK):
        places = np.arange(start, min(start + _BLOCK, split.num_examples))
        pixels = split.pixels(places).reshape(-1, 3).astype(np.float64)
        total += pixels.sum(0)
        squares += (pixels**2).sum(0)
    count = split.num_examples * math.prod(split.image_shape[:2])
    mean = total / count
    # Rounding may leave less than nothing of images of one color.
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return Normalization(tuple(mean.tolist()), tuple(std.tolist()))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status, 2 where the user erred."""
    parser = argparse.ArgumentParser(
        prog="measure", description="Measures mean and std of the training images."
    )
    add = parser.add_argument
    add("--name", required=True, help=f"as data.name: {', '.join(datasets.NAMES)}")
    add("--data_dir", default="", help="as data.data_dir")
    add("--image_size", type=int, default=0, help="as data.image_size")
    add("--bad_images", choices=datasets.BAD_IMAGES, default="error")
    args = parser.parse_args(argv)
    data = config_lib.default().data
    data.update(vars(args))
    try:
        found = measure(datasets.load(data).train)
    except (ValueError, OSError) as error:
        print("measure:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    print(
        " ".join(
            f'"--config.data.{name}=({", ".join(f"{value:.4f}" for value in values)})"'
            for name, values in found._asdict().items()
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
