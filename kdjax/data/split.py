"""What every data source hands on: its description, and the splits it holds."""

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """One split of a data set, whole, in host memory.

    Attributes:
      image: uint8 [N, H, W, 3], red, green, blue, neither normalised nor augmented.
      label: int32 [N], class numbers from 0.
    """

    image: np.ndarray
    label: np.ndarray


class Description(NamedTuple):
    """What has to be known of a data set before its images are read.

    Attributes:
      num_classes: number of labels, K.
      image_shape: [H, W, 3].
    """

    num_classes: int
    image_shape: tuple[int, int, int]
