"""SP: Tung and Mori, "Similarity-Preserving Knowledge Distillation" (ICCV 2019).

Matches the similarities of a batch's feature maps.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.relational import RelationalMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimilarityPreserving(RelationalMethod):
    """Similarity of the batch's images by the last feature map, row by row.

    The term is `similarity`; its mean over the images has the paper's factor 1 / B^2.

    Batch-relational: the row of an image has its products with all images in scope.

    Differs from the original in: what `losses.similarity_preserving` says. Sizes and
    widths of the maps may differ.
    """

    name = "similarity_preserving"
    taxonomy = Taxonomy(
        teacher_transform="Gram matrix of the batch, rows of length 1",
        student_transform="Gram matrix of the batch, rows of length 1",
        position="output of the last block of the last stage",
        distance="L2",
        missing_information="all but relations between the images of a batch",
    )

    weight: float = 3000.0

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the squared differences of each image's row, [B]."""
        similarity = losses.similarity_preserving(
            student.features.block[-1],
            teacher.features.block[-1],
            axis_name=self._relation_axis,
        )
        return {"similarity": similarity}, {}
