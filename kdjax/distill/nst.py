"""NST: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity
Transfer" (2017).

Matches the distribution of the channels' maps, which say where in an image a channel
responds. As in HobbitLong/RepDistiller, `NSTLoss`.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.stages import StagewiseMethod


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nst(StagewiseMethod):
    """Maximum mean discrepancy of the channels' maps of every stage.

    The terms are `stage_1`, `stage_2`, ... . Networks may have different widths;
    nothing is learned to join them. The kernels of a stage are [B, C, C].

    Differs from the original in: what `losses.nst` says; all stages are compared, as in
    RepDistiller.

    Attributes:
      weight: RepDistiller's.
    """

    name = "nst"
    taxonomy = Taxonomy(
        teacher_transform="each channel's map scaled to length 1",
        student_transform="each channel's map scaled to length 1",
        position="output of the last block of a stage",
        distance="maximum mean discrepancy with a polynomial kernel of degree 2",
        missing_information="which channel responds, and how strongly",
    )

    weight: float = 50.0

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
        """Returns the discrepancy of every stage, [B] each."""
        stages = zip(*self._stages(student, teacher), strict=True)
        return {
            f"stage_{stage}": losses.nst(*maps)
            for stage, maps in enumerate(stages, start=1)
        }, {}
