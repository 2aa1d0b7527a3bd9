"""SP: Tung and Mori, "Similarity-Preserving Knowledge Distillation" (ICCV 2019).

Which images of a batch excite a network alike is what the student learns. As in
HobbitLong/RepDistiller, `Similarity`, verified there by the authors.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.distill import transforms
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.relational import RelationalMethod


def similarities(own: jax.Array, everyone: jax.Array) -> jax.Array:
    """Relates images to all images by the products of their flattened maps.

    Source: the paper's equations 1 and 2; as in RepDistiller,
    `Similarity.similarity_loss`.
    Differs from the original in: the row of a map of zeros has a gradient of zero.

    Args:
      own: [B, ...].
      everyone: [B_all, ...].

    Returns:
      Rows of length 1, [B, B_all], float32 or wider.
    """
    own, everyone = (
        x.reshape(len(x), -1).astype(jnp.promote_types(x.dtype, jnp.float32))
        for x in (own, everyone)
    )
    # Rows keep their direction, and large maps do not overflow.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(everyone)))
    scale = jnp.where(largest > 0, largest, 1)
    gram = jnp.matmul(
        own / scale, (everyone / scale).T, precision=jax.lax.Precision.HIGHEST
    )
    return transforms.unit(gram)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimilarityPreserving(RelationalMethod):
    """Similarity of the batch's images by the last feature map, row by row.

    The term is `similarity`, squared differences by the number of images in scope; its
    mean over the images is the paper's 1 / B^2.

    Batch-relational: an image's row are its products with all images in scope.

    Differs from the original in: what `similarities` says. The maps' sizes and widths
    need not agree.
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
        """Returns the squared differences of the device's own rows, [B]."""
        ours, theirs = (
            similarities(x, self._gather(x))
            for x in (student.features.block[-1], teacher.features.block[-1])
        )
        return {"similarity": jnp.mean(jnp.square(ours - theirs), axis=1)}, {}
