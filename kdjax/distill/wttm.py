"""WTTM: Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching"
(ICLR 2024).

TTM with more weight on the examples that the teacher is in doubt about.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax

from kdjax import losses
from kdjax.distill.method import Taxonomy
from kdjax.distill.ttm import Ttm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wttm(Ttm):
    """`Ttm` times the sum of the teacher's powers: the term `divergence`.

    Differs from the original in: what `losses.wttm` says.

    Attributes:
      weight: beta of the paper, chosen for each pair; 4 beside CRD for vgg13-vgg8, the
        only one that the original names.
      exponent: gamma of the paper, also chosen for each pair.
    """

    name = "wttm"
    taxonomy = Taxonomy(
        teacher_transform="power of the softmax, scaled to sum 1",
        student_transform="softmax",
        position="logits",
        distance="KL(teacher || student), weighted by the teacher's doubt",
        missing_information="all but the class probabilities",
    )
    _divergence: ClassVar[Callable[..., jax.Array]] = staticmethod(losses.wttm)

    weight: float = 4.0
    exponent: float = 0.2
