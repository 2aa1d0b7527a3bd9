"""RKD: Park et al., "Relational Knowledge Distillation" (CVPR 2019).

Matches pairwise distances and angles of a batch's pooled features.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.relational import RelationalMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.losses.rkd import FORMS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rkd(RelationalMethod):
    """Distances and angles between the pooled features of a batch.

    The terms are `distance` and `angle`, with their factors.

    Batch-relational: distances and their mean over all images in scope, angles over
    all triplets, of which a device computes those at its own images.

    Differs from the original in: what `losses.rkd` says.

    Attributes:
      form: "repdistiller", or "mhgd" as in the code of the MHGD paper's authors; see
        `losses.rkd`.
      distance_weight: factor on the term of the distances.
      angle_weight: factor on the term of the angles.
    """

    name = "rkd"
    taxonomy = Taxonomy(
        teacher_transform="distances and angles between the batch's pooled features",
        student_transform="distances and angles between the batch's pooled features",
        position="pooled features",
        distance="smooth L1",
        missing_information="all but relations between the images of a batch",
    )

    weight: float = 1.0
    form: str = "repdistiller"
    distance_weight: float = 25.0
    angle_weight: float = 50.0

    def __post_init__(self):
        super().__post_init__()
        self._require_not_negative("distance_weight", "angle_weight")
        self._require_choice("form", FORMS)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns what each image's distances and angles contribute, [B] each."""
        terms = losses.rkd_terms(
            student.features.pooled,
            teacher.features.pooled,
            distance_weight=self.distance_weight,
            angle_weight=self.angle_weight,
            form=self.form,
            axis_name=self._relation_axis,
        )
        return terms, {}
