"""What methods share that compare networks by the singular vectors of their stages.

Each point, the output of a stage after its ReLU, becomes one vector an image, or
several: the teacher's first right singular vectors and what of the student is nearest.
Original: sseung0703/KD_methods_with_TF, `SVD.py`.
"""

import abc
import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax.distill.linalg import singular_vectors
from kdjax.distill.method import Method, Outputs, Variables
from kdjax.distill.modules.connectors import Connectors
from kdjax.distill.stages import require_as_many

#: Values of `gradient`: the rules of the SVD, and what does without it.
GRADIENTS = (*singular_vectors.GRADIENTS, "projection")

#: What becomes of stages of differing widths, by the name used in `widths`.
WIDTHS = ("refuse", "connect")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointVectorMethod(Method):
    """A method that sees one or more unit vectors of every stage.

    Attributes:
      student_vectors: candidates of the student among which the teacher's choose.
      route: how singular vectors are found, a key of `singular_vectors.ROUTES`.
      gradient: "exact"; "released", the authors' rule; or "projection", which gives
        the student vectors without decomposing its maps.
      widths: "connect" stages of other widths to the teacher's by a learned 1x1
        convolution and batch norm, or "refuse" them, as the original does.
    """

    gradient_combination = "clip"

    student_vectors: int = 4
    route: str = "subspace"
    gradient: str = "exact"
    widths: str = "connect"

    @property
    @abc.abstractmethod
    def _teacher_vectors(self) -> int:
        """How many vectors of the teacher are compared."""

    def __post_init__(self):
        self._require_choice("route", singular_vectors.ROUTES)
        self._require_choice("gradient", GRADIENTS)
        self._require_choice("widths", WIDTHS)
        self._require_positive("student_vectors")

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors, if any; refuses stages that cannot be compared."""
        ours = [x.shape[1:] for x in student.features.post]
        theirs = [x.shape[1:] for x in teacher.features.post]
        require_as_many(self.name, ours, theirs)
        widths = [[shape[-1] for shape in shapes] for shapes in (ours, theirs)]
        if self.widths == "refuse" and widths[0] != widths[1]:
            raise ValueError(
                f"methods.{self.name}.widths='refuse' compares singular vectors entry "
                "by entry and needs stages of equal width: the student's are "
                f"{widths[0]}, the teacher's {widths[1]}; 'connect' joins them"
            )
        sizes = [[shape[:2] for shape in shapes] for shapes in (ours, theirs)]
        if self.gradient == "projection" and sizes[0] != sizes[1]:
            raise ValueError(
                f"methods.{self.name}.gradient='projection' needs stages of equal "
                f"height and width: the student's are {sizes[0]}, the teacher's "
                f"{sizes[1]}"
            )
        if self.gradient != "projection":
            self._require_directions(
                "student_vectors", self.student_vectors, sizes[0], widths[1]
            )
        self._require_directions(
            "teacher_vectors", self._teacher_vectors, sizes[1], widths[1]
        )
        if self.widths == "refuse":
            return {}
        features = [jnp.zeros(x.shape, x.dtype) for x in student.features.post]
        return self._connectors(student, teacher).init(key, features)

    def _require_directions(
        self,
        field: str,
        count: int,
        sizes: Sequence[tuple[int, int]],
        widths: Sequence[int],
    ) -> None:
        for (height, width), channels in zip(sizes, widths, strict=True):
            if count > min(height * width, channels):
                raise ValueError(
                    f"methods.{self.name}.{field}={count} is more than a stage of "
                    f"height and width {(height, width)} with {channels} channels has"
                )

    def points(
        self, variables: Variables, student: Outputs, teacher: Outputs
    ) -> tuple[list[tuple[jax.Array, jax.Array]], Variables]:
        """Compresses every stage to the student's and the teacher's vectors.

        Returns:
          At each point two arrays [B, C, R], columns in the order of the teacher's
          singular values; and the connectors' new `batch_stats`.
        """
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
        return points, stats

    def _vectors(
        self, student: jax.Array, teacher: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Compresses the maps of one point, [B, C, R] each."""
        target = singular_vectors.compress(
            teacher, self._teacher_vectors, route=self.route
        )
        if self.gradient == "projection":
            left = singular_vectors.left_vectors(teacher, target)
            return singular_vectors.project(student, left), target
        candidates = singular_vectors.compress(
            student, self.student_vectors, route=self.route, gradient=self.gradient
        )
        return singular_vectors.align(candidates, target), target

    def _connectors(self, student: Outputs, teacher: Outputs) -> Connectors:
        """Connects the stages of other widths and passes the others through."""
        widths = tuple(
            None if ours.shape[-1] == theirs.shape[-1] else theirs.shape[-1]
            for ours, theirs in zip(
                student.features.post, teacher.features.post, strict=True
            )
        )
        return Connectors(widths, dtype=self.dtype, axis_name=self.batch_norm_axis)
