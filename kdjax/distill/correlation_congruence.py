"""CC: Peng et al., "Correlation Congruence for Knowledge Distillation" (ICCV 2019).

Both networks' pooled features are embedded linearly, and how the images of a batch go
together is compared. As in HobbitLong/RepDistiller, `Correlation`, whose form its
authors had from the paper's, and as in the paper, whose kernel
yoshitomo-matsubara/torchdistill has, `CCKDLoss`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from kdjax.distill import transforms
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.modules.embeddings import Embeddings
from kdjax.distill.relational import RelationalMethod

#: How images go together, by the name used in `relation`.
RELATIONS = ("consecutive", "kernel")


def gaussian_kernel(
    own: jax.Array, everyone: jax.Array, *, gamma: float, order: int
) -> jax.Array:
    """Computes exp(-gamma |x - y|^2) of vectors of length 1 by a Taylor series.

    Source: the paper's section 3.3; as in torchdistill,
    `CCKDLoss.compute_cc_mat_by_gaussian_rbf`.
    Differs from the original in: the vectors are scaled to length 1 here, which the
    series needs and torchdistill leaves to its caller.

    Args:
      own: [B, C].
      everyone: [B_all, C].
      gamma: inverse width.
      order: last power of the series.

    Returns:
      [B, B_all].
    """
    cosine = jnp.matmul(
        transforms.unit(own),
        transforms.unit(everyone).T,
        precision=jax.lax.Precision.HIGHEST,
    )
    series = sum(
        (2 * gamma) ** power / math.factorial(power) * cosine**power
        for power in range(order + 1)
    )
    return math.exp(-2 * gamma) * series


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorrelationCongruence(RelationalMethod):
    """Compares how the embeddings of the batch's images go together.

    The term is `correlation`. With relation "consecutive" it is, of d = |s - t|, the
    sum of d_i d_(i+1) over the embedding's entries, for every image and its successor;
    with "kernel" the squared differences of an image's row of kernel values.

    Batch-relational: the successor of a device's last image is the next device's first
    one, and only the last image in scope has none; the rows are to all images in scope.

    Differs from the original in: with "consecutive" nothing: B - 1 terms are averaged,
    which the last image's 0 and the others' factor B / (B - 1) give. With "kernel" the
    squared difference is divided by B^2 as in the paper, where torchdistill takes its
    root.

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

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the embeddings of both networks' pooled features."""
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
        """Returns what the device's own images contribute, [B]."""
        ours, theirs = self._embeddings.apply(
            variables, student.features.pooled, teacher.features.pooled
        )
        if self.relation == "kernel":
            kernels = [
                gaussian_kernel(x, self._gather(x), gamma=self.gamma, order=self.order)
                for x in (ours, theirs)
            ]
            difference = jnp.square(kernels[0] - kernels[1])
            return {"correlation": jnp.mean(difference, axis=1)}, {}
        difference = jnp.abs(ours - theirs)
        everyone = self._gather(difference)
        own, size = self._own_rows(len(difference)), len(everyone)
        successor = everyone[(own + 1) % size]
        product = jnp.sum(difference * successor, axis=1)
        factor = jnp.where(own == size - 1, 0, size / max(size - 1, 1))
        return {"correlation": factor.astype(product.dtype) * product}, {}

    @property
    def _embeddings(self) -> Embeddings:
        return Embeddings(self.width, jnp.promote_types(self.dtype, "float32"))
