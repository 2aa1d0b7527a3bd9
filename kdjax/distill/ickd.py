"""ICKD: Liu et al., "Exploring Inter-Channel Correlation for Diversity-Preserved
Knowledge Distillation" (ICCV 2021).

Matches how the channels of an example correlate. Original: ADLab-AutoDrive/ICKD,
`Cifar100`.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.last_stage import LastStageMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ickd(LastStageMethod):
    """Correlations between the channels of the last stage: the term `correlation`.

    Sizes of the maps may differ.

    Differs from the original in: what `losses.ickd` says; there is no second embedding,
    which in the original gets no gradient.

    Attributes:
      weight: 2.5 in the original's commands.
    """

    name = "ickd"
    taxonomy = Taxonomy(
        teacher_transform="Gram matrix of the channels, rows of length 1",
        student_transform="1x1 convolution and batch norm, then the same",
        position="output of the last block of the last stage",
        distance="L2",
        missing_information="the spatial axes",
    )

    weight: float = 2.5

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the squared differences of the correlations, [B]."""
        connected, stats = self._connected(variables, student, teacher)
        return {"correlation": losses.ickd(connected, self._last(teacher))}, stats
