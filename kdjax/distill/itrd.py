"""ITRD: Miles, Lopez-Rodriguez and Mikolajczyk, "Information Theoretic Representation
Distillation" (BMVC 2022).

Matches pooled features entry by entry, and the similarities of a batch. Original:
roymiles/ITRD.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.projected import ProjectedMethod
from kdjax.distill.bases.relational import RelationalMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Itrd(ProjectedMethod, RelationalMethod):
    """The terms `correlation` and `mutual`, times their weights.

    Batch-relational: both relate the images in `scope`.

    Differs from the original in: what `losses.itrd_correlation` and
    `losses.itrd_mutual` say.

    Attributes:
      weight: factor on both terms.
      correlation_weight: factor on the correlation loss.
      mutual_weight: factor on the mutual information loss; 1 in the original's command
        for wrn_40_2-wrn_16_2, 0.05 where its code is given no other.
      order: alpha of the correlation loss; 1.01 in the same command, else 1.5.
    """

    name = "itrd"
    taxonomy = Taxonomy(
        teacher_transform="none, and similarities between the batch's images",
        student_transform="linear layer, and similarities between the batch's images",
        position="pooled features",
        distance="correlation over the batch, and entropies of similarities",
        missing_information="mean and spread of each entry",
    )

    weight: float = 1.0
    correlation_weight: float = 2.0
    mutual_weight: float = 1.0
    order: float = 1.01

    def __post_init__(self):
        super().__post_init__()
        self._require_not_negative("correlation_weight", "mutual_weight")
        # Below, gradients of equal entries are infinite.
        if not 0.5 <= self.order <= 100:
            raise ValueError(
                f"methods.{self.name}.order={self.order} is not from 0.5 to 100"
            )

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted losses, [B] each."""
        (projected,) = self._projected(variables, student, teacher)
        own, target = student.features.pooled, teacher.features.pooled
        correlation = losses.itrd_correlation(
            projected, target, order=self.order, axis_name=self._relation_axis
        )
        mutual = losses.itrd_mutual(
            own if own.shape == target.shape else projected,
            target,
            axis_name=self._relation_axis,
        )
        terms = {
            "correlation": self.correlation_weight * correlation,
            "mutual": self.mutual_weight * mutual,
        }
        return terms, {}
