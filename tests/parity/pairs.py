"""The pairs of networks that are compared with released codes, and by what."""

import zlib
from typing import NamedTuple

import numpy as np

#: Images of the batch, and size of the logits.
BATCH, CLASSES = 4, 10


class Pair(NamedTuple):
    """A teacher and a student.

    Attributes:
      name: of the golden file.
      teacher: name of the network.
      student: name of the network.
      fsp_teacher: one of the student's widths, which the released FSP needs.
    """

    name: str
    teacher: str
    student: str
    fsp_teacher: str


PAIRS = (
    Pair("wrn", "wrn_16_2", "wrn_10_1", "wrn_16_1"),
    Pair("resnet", "resnet14", "resnet8", "resnet14"),
)


def summary(name: str, gradient: np.ndarray) -> tuple[float, float]:
    """Returns the norm of a gradient and its product with a direction.

    Args:
      name: of the parameter in PyTorch, from which the direction is drawn.
      gradient: in PyTorch's layout, float64.
    """
    rng = np.random.RandomState(zlib.crc32(f"direction of {name}".encode()))
    direction = rng.standard_normal(gradient.shape)
    return float(np.linalg.norm(gradient)), float(np.vdot(direction, gradient))
