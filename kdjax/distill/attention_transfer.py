"""AT: Zagoruyko and Komodakis, "Paying More Attention to Attention: Improving the
Performance of Convolutional Neural Networks via Attention Transfer" (ICLR 2017).

The student is to respond where the teacher does. Original:
szagoruyko/attention-transfer, `utils.py`; as in HobbitLong/RepDistiller, `Attention`.
"""

import dataclasses

from kdjax.distill.composed import Composed
from kdjax.distill.method import Taxonomy


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionTransfer(Composed):
    """Mean squared difference of the attention maps of every stage.

    Differs from the original in: where sizes differ, the larger map is averaged down to
    the smaller before its attention map is taken, as in RepDistiller; a map of zeros
    has a gradient of zero.

    Attributes:
      weight: of the mean over positions; the paper's beta is twice as much of it, as
        its loss has beta / 2. RepDistiller has 1000, KD_methods_with_TF 500
        (beta = 1000), for images of 32x32: maps have length 1 whatever their size, so
        on 8x8 images, with a sixteenth of the positions, the mean is sixteen times as
        large.
    """

    name = "attention_transfer"
    taxonomy = Taxonomy(
        teacher_transform="attention map",
        student_transform="attention map",
        position="after the ReLU that ends a stage",
        distance="L2",
        missing_information="the channel axis",
    )

    weight: float = 1000.0
    teacher_transform: str = "attention_map"
    student_transform: str = "attention_map"
    connect: str = "never"
