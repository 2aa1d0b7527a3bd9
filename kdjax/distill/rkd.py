"""RKD: Park et al., "Relational Knowledge Distillation" (CVPR 2019).

How far apart the images of a batch lie, and at which angles, is what the student learns
of the teacher's pooled features. As in HobbitLong/RepDistiller, `RKDLoss`, and
sseung0703/KD_methods_with_TF, `RKD`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from kdjax.distill import transforms
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.relational import RelationalMethod

#: No distance is less, as released.
_LEAST = 1e-6

#: Added to the mean distance in the form "mhgd", as released.
_ADDED = 1e-8

#: The published forms, by the name used in `methods.rkd.form`.
FORMS = ("repdistiller", "mhgd")


def _differences(
    embedding: jax.Array, rows: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Subtracts the images at some rows from all.

    Returns:
      Differences, [B, B_all, C]; their squared lengths, [B, B_all]; and which images
      are apart, [B, B_all]: what is not is zero, and no gradient passes.
    """
    difference = embedding[None, :, :] - embedding[rows][:, None, :]
    square = jnp.sum(jnp.square(difference), axis=-1)
    # Rounding may leave something between an image and itself.
    apart = (square > _LEAST**2) & (rows[:, None] != jnp.arange(len(embedding))[None])
    return (
        jnp.where(apart[..., None], difference, 0),
        jnp.where(apart, square, 0),
        apart,
    )


def distances(embedding: jax.Array) -> jax.Array:
    """Measures how far apart all images lie.

    Source: the paper's psi_D, before its division by the mean; as in RepDistiller,
    `RKDLoss.pdist`.
    Differs from the original in: differences are taken before they are squared, which
    loses no digits; the diagonal is 1e-6 as every least distance, not yet zero.

    Args:
      embedding: [B, C].

    Returns:
      [B, B], 1e-6 or more.
    """
    _, square, apart = _differences(embedding, jnp.arange(len(embedding)))
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), _LEAST)


def angles(embedding: jax.Array, rows: jax.Array) -> jax.Array:
    """Measures the cosines of the angles at some images between all pairs of images.

    Source: the paper's psi_A; as in RepDistiller, `RKDLoss.forward`.
    Differs from the original in: the direction between images nearer than 1e-6 is zero
    with a gradient of zero, where the originals' gradient is up to 1e12.

    Args:
      embedding: all images, [B_all, C].
      rows: the images at the corners, [B].

    Returns:
      [B, B_all, B_all].
    """
    direction = transforms.unit(_differences(embedding, rows)[0])
    return jnp.einsum(
        "ijc,ikc->ijk", direction, direction, precision=jax.lax.Precision.HIGHEST
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rkd(RelationalMethod):
    """Distances and angles between the pooled features of a batch.

    The terms are `distance` and `angle`, with their factors; each distance is divided
    by the mean of its network's, and the differences pass a smooth L1.

    Batch-relational: distances and their mean over all images in scope, angles over
    all triplets, of which a device computes those with a corner of its own.

    Differs from the original in: what `distances` and `angles` say.

    Attributes:
      form: "repdistiller", or "mhgd" as in the code of the MHGD paper's authors: the
        features are scaled to length 1 first, an image's distance 1e-6 to itself
        counts in the mean, and 1e-8 is added to the mean.
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
        self._require_choice("form", FORMS)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns what the device's own images contribute, [B] each."""
        ours, theirs = (
            self._relations(outputs.features.pooled) for outputs in (student, teacher)
        )
        factors = {"distance": self.distance_weight, "angle": self.angle_weight}
        terms = {}
        for term, factor in factors.items():
            # Huber's loss with a threshold of 1 is the smooth L1.
            difference = optax.losses.huber_loss(ours[term], theirs[term])
            terms[term] = factor * jnp.mean(
                difference, axis=tuple(range(1, difference.ndim))
            )
        return terms, {}

    def _relations(self, pooled: jax.Array) -> dict[str, jax.Array]:
        """Relates the device's own images to all in scope, [B, B_all, ...]."""
        own = pooled.astype(jnp.promote_types(pooled.dtype, jnp.float32))
        if self.form == "mhgd":
            own = transforms.unit(own)
        everyone, rows = self._gather(own), self._own_rows(len(own))
        distance = distances(everyone)
        if self.form == "repdistiller":
            distance = distance * (1 - jnp.eye(len(everyone), dtype=distance.dtype))
        return {
            "distance": self._by_mean(distance)[rows],
            "angle": angles(everyone, rows),
        }

    def _by_mean(self, distance: jax.Array) -> jax.Array:
        size = len(distance)
        counted = size * (size - 1) if self.form == "repdistiller" else size**2
        mean = jnp.sum(distance) / max(counted, 1)
        if self.form == "mhgd":
            return distance / (mean + _ADDED)
        return distance / jnp.where(mean > 0, mean, 1)
