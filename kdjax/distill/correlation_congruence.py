"""CC: Peng et al., "Correlation Congruence for Knowledge Distillation" (ICCV 2019).

Compares correlations between the embeddings of a batch, which are learned linear maps
of both networks' pooled features.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.distill.bases.relational import RelationalMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.modules.embeddings import Embeddings

#: How the images of a batch are compared, by the name used in `relation`.
RELATIONS = ("consecutive", "kernel")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorrelationCongruence(RelationalMethod):
    """Compares correlations between embeddings in a batch.

    The term is `correlation`.

    Batch-relational: with "consecutive", the successor of a device's last image is the
    next device's first one; with "kernel", each image is compared with all in scope.

    Differs from the original in: what `losses.correlation_congruence` and
    `losses.correlation_congruence_kernel` say.

    Attributes:
      relation: "consecutive" as in RepDistiller, or "kernel" as in the paper, which
        has no published weight in this form.
      width: entries of the embeddings.
      gamma: inverse width of the kernel.
      order: last power of the kernel's series.
    """

    name = "correlation_congruence"
    taxonomy = Taxonomy(
        teacher_transform="linear embedding, relations between the batch's images",
        student_transform="linear embedding, relations between the batch's images",
        position="pooled features",
        distance="products of consecutive differences",
        missing_information="what the embedding drops",
    )

    weight: float = 0.02
    relation: str = "consecutive"
    width: int = 128
    gamma: float = 0.4
    order: int = 2

    def __post_init__(self):
        super().__post_init__()
        self._require_choice("relation", RELATIONS)
        self._require_positive("width")
        self._require_positive("order")
        self._require_not_negative("gamma")

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Creates the embeddings of both networks' pooled features."""
        pooled = [x.features.pooled for x in (student, teacher)]
        return self._embeddings.init(
            key, *(jnp.zeros(x.shape, x.dtype) for x in pooled)
        )

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns what each image contributes, [B]."""
        embedded = self._embeddings.apply(
            variables, student.features.pooled, teacher.features.pooled
        )
        if self.relation == "kernel":
            correlation = losses.correlation_congruence_kernel(
                *embedded,
                gamma=self.gamma,
                order=self.order,
                axis_name=self._relation_axis,
            )
        else:
            correlation = losses.correlation_congruence(
                *embedded, axis_name=self._relation_axis
            )
        return {"correlation": correlation}, {}

    @property
    def _embeddings(self) -> Embeddings:
        return Embeddings(self.width, jnp.promote_types(self.dtype, "float32"))
