"""PKT: Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge
Transfer" (ECCV 2018).

Matches conditional neighbor probabilities within a batch.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.relational import RelationalMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pkt(RelationalMethod):
    """Divergence of the neighbor probabilities, KL(teacher || student).

    The term is `divergence`, a mean over the images in scope.

    Batch-relational: the neighbors of an image are all images in scope.

    Differs from the original in: what `losses.pkt` says.
    """

    name = "pkt"
    taxonomy = Taxonomy(
        teacher_transform="probabilities from cosines between the batch's images",
        student_transform="probabilities from cosines between the batch's images",
        position="pooled features",
        distance="KL(teacher || student)",
        missing_information="all but relations between the images of a batch",
    )

    weight: float = 30000.0

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the divergence of each image's neighbor probabilities, [B]."""
        pooled = student.features.pooled, teacher.features.pooled
        return {"divergence": losses.pkt(*pooled, axis_name=self._relation_axis)}, {}
