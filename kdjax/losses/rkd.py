"""RKD: Park et al., "Relational Knowledge Distillation" (CVPR 2019).

Matches pairwise distances and angles of a batch's pooled features. As in
HobbitLong/RepDistiller, `RKDLoss`, and sseung0703/KD_methods_with_TF, `RKD`.
"""

import jax
import jax.numpy as jnp
import optax

from kdjax.losses.numerics import l2_normalize, promote
from kdjax.losses.relations import gather, global_index, global_sum, require_vectors

#: Lower bound of distances, as in the originals.
_LEAST = 1e-6

#: Added to the mean distance in the form "mhgd", as in the original.
_EPSILON = 1e-8

#: The published forms, by the name used in `form`.
FORMS = ("repdistiller", "mhgd")


def differences(
    embedding: jax.Array, rows: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Subtracts the examples at some rows from all examples.

    Args:
      embedding: all examples, [B_all, C].
      rows: indices of some of them, [B].

    Returns:
      Differences, [B, B_all, C]; their squared lengths, [B, B_all]; and whether the
      distance exceeds 1e-6, [B, B_all]. Where not, both are zero and pass no gradient.
    """
    difference = embedding[None, :, :] - embedding[rows][:, None, :]
    square = jnp.sum(jnp.square(difference), axis=-1)
    # Rounding may leave a distance of an example to itself.
    apart = (square > _LEAST**2) & (rows[:, None] != jnp.arange(len(embedding))[None])
    return (
        jnp.where(apart[..., None], difference, 0),
        jnp.where(apart, square, 0),
        apart,
    )


def _relations(
    embedding: jax.Array, *, form: str, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """Relates this device's examples to all, by distance and by angle.

    Returns:
      Distances divided by the mean of all, [B, B_all]; and cosines of the angles at
      this device's examples between all pairs of examples, [B, B_all, B_all].
    """
    if form == "mhgd":
        embedding = l2_normalize(embedding)
    rows = global_index(len(embedding), axis_name)
    difference, square, apart = differences(gather(embedding, axis_name), rows)
    size = difference.shape[1]
    least = _LEAST
    if form == "repdistiller":
        # The diagonal is zero, and not counted in the mean.
        least = jnp.where(rows[:, None] == jnp.arange(size)[None], 0, _LEAST)
        least = least.astype(square.dtype)
    distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), least)
    count = size**2 if form == "mhgd" else max(size * (size - 1), 1)
    mean = global_sum(distance, axis_name) / count
    scale = mean + _EPSILON if form == "mhgd" else jnp.where(mean > 0, mean, 1)
    direction = l2_normalize(difference)
    angle = jnp.einsum(
        "ijc,ikc->ijk", direction, direction, precision=jax.lax.Precision.HIGHEST
    )
    return distance / scale, angle


def rkd_terms(
    student: jax.Array,
    teacher: jax.Array,
    *,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
    form: str = "repdistiller",
    axis_name: str | None = None,
) -> dict[str, jax.Array]:
    """Returns the two summands of `rkd`: `distance` and `angle`."""
    require_vectors("rkd", student, teacher)
    if form not in FORMS:
        raise ValueError(f"rkd: form={form!r} is none of {sorted(FORMS)}")
    student, teacher = (
        _relations(x, form=form, axis_name=axis_name) for x in promote(student, teacher)
    )
    # Huber's loss with a threshold of 1 is the smooth L1.
    distance, angle = map(optax.losses.huber_loss, student, teacher)
    return {
        "distance": distance_weight * jnp.mean(distance, axis=1),
        "angle": angle_weight * jnp.mean(angle, axis=(1, 2)),
    }


def rkd(
    student: jax.Array,
    teacher: jax.Array,
    *,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
    form: str = "repdistiller",
    axis_name: str | None = None,
) -> jax.Array:
    """Computes the smooth L1 of pairwise distances and of angles.

    Distances are Euclidean and divided by their mean, for each network. Angles are
    those of all triplets of examples.

    Source: the paper's psi_D and psi_A; as in RepDistiller, `RKDLoss`.
    Differs from the original in: differences are taken before they are squared, which
    loses no digits; a distance of 1e-6 or less has a gradient of zero and no direction,
    where the originals' gradient reaches 1e12.

    Args:
      student: pooled features, [B, C].
      teacher: pooled features, [B, C'].
      distance_weight: weight of the distances.
      angle_weight: weight of the angles.
      form: "repdistiller", or "mhgd" as in the code of the MHGD paper's authors: the
        features are scaled to length 1 first, the distance 1e-6 of an example to itself
        counts in the mean, and 1e-8 is added to the mean.
      axis_name: mapped axis over which the batch is spread; None for no such axis.

    Returns:
      [B], float32 or wider: what the example's distances and the angles at it
      contribute to the mean. The angles take [B, B_all, B_all] values.

    Raises:
      ValueError: if the features are not vectors of one batch, or the form is unknown.
    """
    terms = rkd_terms(
        student,
        teacher,
        distance_weight=distance_weight,
        angle_weight=angle_weight,
        form=form,
        axis_name=axis_name,
    )
    return sum(terms.values())
