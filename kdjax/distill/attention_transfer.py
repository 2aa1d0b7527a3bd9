"""AT: Zagoruyko and Komodakis, "Paying More Attention to Attention: Improving the
Performance of Convolutional Neural Networks via Attention Transfer" (ICLR 2017).

Matches where in an image the networks respond. Original: szagoruyko/attention-transfer,
`utils.py`; as in HobbitLong/RepDistiller, `Attention`.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.stages import StagewiseMethod


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionTransfer(StagewiseMethod):
    """Mean squared difference of the attention maps of every stage.

    The terms are `stage_1`, `stage_2`, ... .

    Differs from the original in: what `losses.attention_transfer` says.

    Attributes:
      weight: of the mean over positions; the paper's beta is twice as much, as its loss
        has beta / 2. RepDistiller has 1000, KD_methods_with_TF 500 (beta = 1000), both
        for images of 32x32. Attention maps have length 1 whatever their size, so that
        the weight grows with the area of the maps: for the 8x8 digits, whose maps have
        a sixteenth of the positions, it is 1000 / 16.
    """

    name = "attention_transfer"
    taxonomy = Taxonomy(
        teacher_transform="attention map",
        student_transform="attention map",
        position="output of the last block of a stage",
        distance="L2",
        missing_information="the channel axis",
    )

    weight: float = 1000.0

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Learns nothing; rejects networks with different numbers of stages."""
        self._stages(student, teacher)
        return {}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the difference of the attention maps of every stage, [B] each."""
        stages = zip(*self._stages(student, teacher), strict=True)
        return {
            f"stage_{stage}": losses.attention_transfer(*maps)
            for stage, maps in enumerate(stages, start=1)
        }, {}
