"""KD-SVD: Lee et al., "Self-supervised Knowledge Distillation Using Singular Value
Decomposition" (ECCV 2018).

A feature map is compressed to its first singular vector. How the vectors of one point
of the network relate to those of the point before, entry by entry under a radial basis,
is what the student learns. Original: sseung0703/KD_methods_with_TF, `SVD.py`,
`KD_SVD` and `KD_EID`.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax.distill.linalg import singular_vectors
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.singular_vector_method import PointVectorMethod

#: Bandwidth of the radial basis, fixed in the original.
_BANDWIDTH = 8


def radial_basis(back: jax.Array, front: jax.Array) -> jax.Array:
    """Computes exp(-(back_i - front_j)^2 / 8) for all pairs of entries.

    Source: KD-SVD; original: the inner part of `KD_SVD`.
    Differs from the original in: nothing.

    Args:
      back: vectors of the point nearer to the logits, [B, C_back, R].
      front: vectors of the point before it, [B, C_front, R].

    Returns:
      [B, C_back, C_front, R].
    """
    difference = back[:, :, None, :] - front[:, None, :, :]
    return jnp.exp(-jnp.square(difference) / _BANDWIDTH)


def kd_svd_loss(
    student: tuple[jax.Array, jax.Array], teacher: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """Compares how two consecutive points relate, in the student and in the teacher.

    Source: KD-SVD; original: `KD_SVD` and `KD_EID`, the same loss by two
    decompositions.
    Differs from the original in: the sum stops at the example, where the original sums
    over the batch too; entries that are not finite are not zeroed, there are none.

    Args:
      student: aligned vectors of the front and the back point, [B, C_front, R] and
        [B, C_back, R].
      teacher: the teacher's, of the same shapes.

    Returns:
      Sums of squared differences over both points' entries and the vectors, [B].

    Raises:
      ValueError: if the shapes differ.
    """
    for ours, theirs in zip(student, teacher, strict=True):
        _require_equal("kd_svd_loss", ours, theirs)
    (front, back), (teacher_front, teacher_back) = student, teacher
    difference = radial_basis(back, front) - radial_basis(teacher_back, teacher_front)
    return jnp.sum(jnp.square(difference), axis=(1, 2, 3))


def direct_loss(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Compares the vectors of one point as they are: KD-SVDF.

    Source: the baseline "KD-SVDF" of the tables of "Graph-based Knowledge Distillation
    by Multi-head Attention Network" (BMVC 2019), where the singular vectors are
    transferred directly. No code was released: that it is a sum of squared differences
    of aligned first vectors, at every point, is this package's reading.

    Args:
      student: aligned vectors, [B, C, R].
      teacher: the teacher's, [B, C, R].

    Returns:
      Sums of squared differences, [B].

    Raises:
      ValueError: if the shapes differ.
    """
    _require_equal("direct_loss", student, teacher)
    return jnp.sum(jnp.square(student - teacher), axis=(1, 2))


def _require_equal(name: str, student: jax.Array, teacher: jax.Array) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"{name}: student {student.shape} and teacher {teacher.shape} differ"
        )


def _relations(
    student: Sequence[jax.Array], teacher: Sequence[jax.Array]
) -> dict[str, jax.Array]:
    """Returns `kd_svd_loss` of every two consecutive points."""
    pairs = zip(itertools.pairwise(student), itertools.pairwise(teacher), strict=True)
    return {
        f"pair_{pair}": kd_svd_loss(ours, theirs)
        for pair, (ours, theirs) in enumerate(pairs, start=1)
    }


def _direct(
    student: Sequence[jax.Array], teacher: Sequence[jax.Array]
) -> dict[str, jax.Array]:
    """Returns `direct_loss` of every point."""
    return {
        f"point_{point}": direct_loss(ours, theirs)
        for point, (ours, theirs) in enumerate(
            zip(student, teacher, strict=True), start=1
        )
    }


#: What is compared, by the name used in `methods.kd_svd.transfer`.
TRANSFERS = {"relation": _relations, "direct": _direct}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KdSvd(PointVectorMethod):
    """Relations of the first singular vectors of consecutive feature maps.

    The terms are `pair_1`, `pair_2`, ... , each of a stage and the one above it; with
    direct transfer they are `point_1`, `point_2`, ... , each of one stage.

    Attributes:
      weight: factor on the mean over the batch. The original has none and sums over
        its batch of 128; which matters where the gradient is not clipped.
      teacher_vectors: vectors of the teacher; more than one are weighted by their share
        of the singular values, as in sseung0703/SSKD_SVD.
      transfer: "relation" or "direct".
    """

    taxonomy = Taxonomy(
        teacher_transform="first right singular vector",
        student_transform="right singular vector nearest the teacher's",
        position="after the ReLU that ends a stage",
        distance="squared difference of radial bases between consecutive stages",
        missing_information="all but the strongest direction of the channels",
    )
    name = "kd_svd"

    weight: float = 128.0
    teacher_vectors: int = 1
    transfer: str = "relation"

    def __post_init__(self):
        super().__post_init__()
        self._require_choice("transfer", TRANSFERS)
        self._require_positive("teacher_vectors")

    @property
    def _teacher_vectors(self) -> int:
        return self.teacher_vectors

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors, if any; refuses stages that cannot be compared."""
        variables = super().init(key, student, teacher)
        if self.transfer == "relation" and len(teacher.features.post) < 2:
            raise ValueError(
                "methods.kd_svd.transfer='relation' needs two stages or more, not "
                f"{len(teacher.features.post)}"
            )
        return variables

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the difference of every pair of stages, or of every stage, [B]."""
        points, stats = self.points(variables, student, teacher)
        weighted = []
        for maps, (ours, theirs) in zip(teacher.features.post, points, strict=True):
            share = singular_vectors.shares(maps, theirs)[:, None]
            weighted.append((ours * share, theirs * share))
        return TRANSFERS[self.transfer](*zip(*weighted, strict=True)), stats
