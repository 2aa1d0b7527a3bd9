"""What every data source hands on: the images and labels of one split."""

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
