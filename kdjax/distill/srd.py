"""SRD: Miles and Mikolajczyk, "Understanding the Role of the Projector in Knowledge
Distillation" (AAAI 2024).

Matches pooled features, standardized over the batch, in a high norm. Original:
roymiles/Simple-Recipe-Distillation, `imagenet`.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.projected import ProjectedMethod
from kdjax.distill.bases.relational import RelationalMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Srd(ProjectedMethod, RelationalMethod):
    """log sum |student - teacher|^4 of standardized features: the term `distance`.

    Published with KD at temperature 1 and a weight of 1 added: `srd+kd`.

    Batch-relational: features are standardized over the images in `scope`.

    Differs from the original in: what `losses.srd` says.

    Attributes:
      weight: for ImageNet.
    """

    name = "srd"
    taxonomy = Taxonomy(
        teacher_transform="standardized over the batch",
        student_transform="linear layer, then the same",
        position="pooled features",
        distance="logarithm of the fourth power of L4",
        missing_information="mean and spread of each entry",
    )

    weight: float = 2.0

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the distance of the batch, the same for every image, [B]."""
        (projected,) = self._projected(variables, student, teacher)
        distance = losses.srd(
            projected, teacher.features.pooled, axis_name=self._relation_axis
        )
        return {"distance": distance}, {}
