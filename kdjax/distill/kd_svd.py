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

from kdjax.distill import singular_vectors
from kdjax.distill.connectors import Connectors
from kdjax.distill.method import Method, Outputs, Taxonomy, Variables

#: Bandwidth of the radial basis, fixed in the original.
_BANDWIDTH = 8

#: Values of `methods.kd_svd.gradient`: the rules of the SVD, and what does without it.
GRADIENTS = (*singular_vectors.GRADIENTS, "projection")


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

#: What becomes of differing widths, by the name used in `methods.kd_svd.widths`.
WIDTHS = ("refuse", "connect")


@dataclasses.dataclass(frozen=True, kw_only=True)
class KdSvd(Method):
    """Relations of the first singular vectors of consecutive feature maps.

    The terms are `pair_1`, `pair_2`, ... , each of a stage and the one above it; with
    direct transfer they are `point_1`, `point_2`, ... , each of one stage.

    Attributes:
      weight: factor on the sum of the terms. The original has none: it bounds the
        gradient instead.
      student_vectors: candidates of the student among which the teacher's choose.
      teacher_vectors: vectors of the teacher; more than one are weighted by their share
        of the singular values, as in sseung0703/SSKD_SVD.
      route: how singular vectors are found, a key of `singular_vectors.ROUTES`.
      gradient: "exact"; "released", the authors' rule; or "projection", which gives
        the student vectors without decomposing its maps.
      transfer: "relation" or "direct".
      widths: "refuse" stages of other widths, as the original does, or "connect"
        them to the teacher's by a learned 1x1 convolution and batch norm.
    """

    taxonomy = Taxonomy(
        teacher_transform="first right singular vector",
        student_transform="right singular vector nearest the teacher's",
        position="after the ReLU that ends a stage",
        distance="squared difference of radial bases between consecutive stages",
        missing_information="all but the strongest direction of the channels",
    )

    combination = "clip"

    weight: float = 1.0
    student_vectors: int = 4
    teacher_vectors: int = 1
    route: str = "subspace"
    gradient: str = "exact"
    transfer: str = "relation"
    widths: str = "refuse"

    def __post_init__(self):
        for name, table in (
            ("route", singular_vectors.ROUTES),
            ("gradient", GRADIENTS),
            ("transfer", TRANSFERS),
            ("widths", WIDTHS),
        ):
            if getattr(self, name) not in table:
                raise ValueError(
                    f"methods.kd_svd.{name}={getattr(self, name)!r} is none of "
                    f"{sorted(table)}"
                )
        for name in ("student_vectors", "teacher_vectors"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"methods.kd_svd.{name}={getattr(self, name)} is less than 1"
                )

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors, if any; refuses stages that cannot be compared."""
        ours = [x.shape[1:] for x in student.features.post]
        theirs = [x.shape[1:] for x in teacher.features.post]
        if len(ours) != len(theirs):
            raise ValueError(
                f"methods.kd_svd needs as many stages in both networks: the student "
                f"has {len(ours)}, the teacher {len(theirs)}"
            )
        if self.transfer == "relation" and len(ours) < 2:
            raise ValueError(
                "methods.kd_svd.transfer='relation' needs two stages or more, not "
                f"{len(ours)}"
            )
        widths = [[shape[-1] for shape in shapes] for shapes in (ours, theirs)]
        if self.widths == "refuse" and widths[0] != widths[1]:
            raise ValueError(
                "methods.kd_svd.widths='refuse' compares singular vectors entry by "
                "entry and needs stages of equal width: the student's are "
                f"{widths[0]}, the teacher's {widths[1]}; 'connect' joins them"
            )
        sizes = [[shape[:2] for shape in shapes] for shapes in (ours, theirs)]
        if self.gradient == "projection" and sizes[0] != sizes[1]:
            raise ValueError(
                "methods.kd_svd.gradient='projection' needs stages of equal height and "
                f"width: the student's are {sizes[0]}, the teacher's {sizes[1]}"
            )
        for name, (heights_widths, count) in {
            "student_vectors": (sizes[0], self.student_vectors),
            "teacher_vectors": (sizes[1], self.teacher_vectors),
        }.items():
            if name == "student_vectors" and self.gradient == "projection":
                continue
            for (height, width), channels in zip(
                heights_widths, widths[1], strict=True
            ):
                if count > min(height * width, channels):
                    raise ValueError(
                        f"methods.kd_svd.{name}={count} is more than a stage of height "
                        f"and width {(height, width)} with {channels} channels has"
                    )
        if self.widths == "refuse":
            return {}
        features = [jnp.zeros(x.shape, x.dtype) for x in student.features.post]
        return self._connectors(student, teacher).init(key, features)

    def loss(
        self,
        variables: Variables,
        constants: Variables,
        student: Outputs,
        teacher: Outputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the difference of every pair of stages, or of every stage, [B]."""
        ours, stats = student.features.post, {}
        if self.widths == "connect":
            ours, updates = self._connectors(student, teacher).apply(
                variables, ours, mutable=["batch_stats"]
            )
            stats = updates.get("batch_stats", {})
        points = [
            self._vectors(*maps)
            for maps in zip(ours, teacher.features.post, strict=True)
        ]
        return TRANSFERS[self.transfer](*zip(*points, strict=True)), stats

    def _vectors(
        self, student: jax.Array, teacher: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Compresses the maps of one point, [B, C, R] each."""
        target = singular_vectors.compress(
            teacher, self.teacher_vectors, route=self.route
        )
        if self.gradient == "projection":
            left = singular_vectors.left_vectors(teacher, target)
            found = singular_vectors.project(student, left)
        else:
            candidates = singular_vectors.compress(
                student, self.student_vectors, route=self.route, gradient=self.gradient
            )
            found = singular_vectors.align(candidates, target)
        share = singular_vectors.shares(teacher, target)[:, None]
        return found * share, target * share

    def _connectors(self, student: Outputs, teacher: Outputs) -> Connectors:
        """Connects the stages of other widths and passes the others through."""
        widths = tuple(
            None if ours.shape[-1] == theirs.shape[-1] else theirs.shape[-1]
            for ours, theirs in zip(
                student.features.post, teacher.features.post, strict=True
            )
        )
        return Connectors(widths, dtype=self.dtype, axis_name=self.axis_name)
