"""PKT: Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge
Transfer" (ECCV 2018).

Each image of a batch chooses another by similarity; the student's choice is drawn to
the teacher's. Original: passalis/probabilistic_kt; as in HobbitLong/RepDistiller,
`PKT`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.distill import transforms
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.relational import RelationalMethod

#: Added to both probabilities in the logarithm, as released.
_EPSILON = 1e-7


def choices(own: jax.Array, everyone: jax.Array) -> jax.Array:
    """Turns cosine similarities, mapped to [0, 1], into probabilities.

    Source: the paper's equations 6 and 11; original: `cosine_similarity_loss`.
    Differs from the original in: the length of a vector is not increased by 1e-7; a
    vector of zeros has a gradient of zero, where the original's is not a number.

    Args:
      own: [B, C].
      everyone: [B_all, C].

    Returns:
      Rows of sum 1, [B, B_all].
    """
    cosine = jnp.matmul(
        transforms.unit(own),
        transforms.unit(everyone).T,
        precision=jax.lax.Precision.HIGHEST,
    )
    # Rounding may lead below -1.
    likeness = jnp.maximum((cosine + 1) / 2, 0)
    return likeness / jnp.sum(likeness, axis=1, keepdims=True)


def divergences(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Compares probabilities by t log(t / s) - (t - s), entry by entry.

    Source: the paper's equation 14; original: `cosine_similarity_loss`.
    Differs from the original in: t - s, which adds up to zero over a row, is taken off:
    where the choices are much alike little but rounding remains of the sum without it.

    Args:
      student: rows of sum 1, [B, B_all].
      teacher: of the same shape.

    Returns:
      [B, B_all].
    """
    excess = teacher - student
    return teacher * jnp.log1p(excess / (student + _EPSILON)) - excess


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pkt(RelationalMethod):
    """Divergence of the choices by the pooled features, KL(teacher || student).

    The term is `divergence`, the mean over the images in scope and not their sum, so
    that its mean over the batch is the original's over B^2 entries.

    Batch-relational: an image chooses among all images in scope, itself included.

    Differs from the original in: what `choices` and `divergences` say.
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
        """Returns the divergence of the device's own images' choices, [B]."""
        ours, theirs = (
            self._choices(outputs.features.pooled) for outputs in (student, teacher)
        )
        return {"divergence": jnp.mean(divergences(ours, theirs), axis=1)}, {}

    def _choices(self, pooled: jax.Array) -> jax.Array:
        own = pooled.astype(jnp.promote_types(pooled.dtype, jnp.float32))
        return choices(own, self._gather(own))
