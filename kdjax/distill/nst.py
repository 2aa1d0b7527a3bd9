"""NST: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity
Transfer" (2017).

A channel's map says where in an image it responds. The student's maps are to be
distributed as the teacher's are. As in HobbitLong/RepDistiller, `NSTLoss`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from kdjax.distill.composed import Composed
from kdjax.distill.method import Taxonomy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nst(Composed):
    """Maximum mean discrepancy of the channels' maps of every stage.

    Networks may have other widths; nothing is learned to join them.

    All stages are compared, as in RepDistiller.

    Differs from the original in: a map of zeros has a gradient of zero.

    Attributes:
      weight: RepDistiller's.
    """

    name = "nst"
    taxonomy = Taxonomy(
        teacher_transform="each channel's map scaled to length 1",
        student_transform="each channel's map scaled to length 1",
        position="after the ReLU that ends a stage",
        distance="maximum mean discrepancy with a polynomial kernel of degree 2",
        missing_information="which channel responds, and how strongly",
    )

    weight: float = 50.0
    teacher_transform: str = "channel_unit"
    student_transform: str = "channel_unit"
    connect: str = "never"
    distance: str = "polynomial_mmd"

    def _check_widths(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """Accepts stages of other widths unless another distance was chosen."""
        if self.distance != "polynomial_mmd":
            super()._check_widths(pairs)
