"""The base of methods that compare networks by the singular vectors of their stages.

The output of each stage after its ReLU is compressed to one or more vectors an image:
the teacher's first right singular vectors, and the student's nearest to them.
Original: sseung0703/KD_methods_with_TF, `SVD.py`.
"""

import abc
import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax.distill.method import Method, Outputs, Variables
from kdjax.distill.modules.connectors import Connectors
from kdjax.distill.stages import require_as_many
from kdjax.losses.linalg import singular_vectors

#: Values of `gradient`: the rules of the SVD, and projection, which does without it.
GRADIENTS = (*singular_vectors.GRADIENTS, "projection")

#: Policies for stages of differing widths, by the name used in `widths`.
WIDTHS = ("refuse", "connect")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingularVectorMethod(Method):
    """A method that compares one or more unit vectors of every stage.

    Attributes:
      gradient_combination: "clip", as released.
      student_vectors: candidates of the student among which the teacher's choose.
      algorithm: how singular vectors are found, a key of `singular_vectors.ALGORITHMS`.
      gradient: "exact"; "released", the authors' rule; or "projection", which gives
        the student vectors without decomposing its maps.
      widths: "connect" stages of other widths to the teacher's by a learned 1x1
        convolution and batch norm, or "refuse" them, as the original does.
    """

    gradient_combination: str = "clip"
    student_vectors: int = 4
    algorithm: str = "subspace"
    gradient: str = "exact"
    widths: str = "connect"

    @property
    @abc.abstractmethod
    def _teacher_vectors(self) -> int:
        """The number of teacher vectors that are compared."""

    def __post_init__(self):
        self._require_choice("algorithm", singular_vectors.ALGORITHMS)
        self._require_choice("gradient", GRADIENTS)
        self._require_choice("widths", WIDTHS)
        self._require_positive("student_vectors")

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors, if any; rejects stages that cannot be compared."""
        maps = student.features.post, teacher.features.post
        require_as_many(self.name, *maps)
        widths = [[x.shape[3] for x in side] for side in maps]
        if self.widths == "refuse" and widths[0] != widths[1]:
            raise ValueError(
                f"methods.{self.name}.widths='refuse' compares singular vectors entry "
                "by entry and needs stages of equal width: the student's are "
                f"{widths[0]}, the teacher's {widths[1]}; 'connect' joins them"
            )
        sizes = [[x.shape[1:3] for x in side] for side in maps]
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

    def vectors(
        self, variables: Variables, student: Outputs, teacher: Outputs
    ) -> tuple[list[jax.Array], list[jax.Array], Variables]:
        """Compresses every stage to the student's and the teacher's vectors.

        Returns:
          The student's and the teacher's vectors, [B, C, R] for every stage, columns in
          the order of the teacher's singular values; and the connectors' new
          `batch_stats`.
        """
        maps, stats = student.features.post, {}
        if self.widths == "connect":
            maps, updates = self._connectors(student, teacher).apply(
                variables, maps, mutable=["batch_stats"]
            )
            stats = updates.get("batch_stats", {})
        teacher_maps = teacher.features.post
        if self.gradient == "projection":
            teacher_vectors = self._compress(teacher_maps)
            student_vectors = [
                singular_vectors.project(
                    x, singular_vectors.left_vectors(teacher_map, vectors)
                )
                for x, teacher_map, vectors in zip(
                    maps, teacher_maps, teacher_vectors, strict=True
                )
            ]
            return student_vectors, teacher_vectors, stats
        # Both networks at once: maps of one size are decomposed together.
        found = self._compress(teacher_maps, maps)
        teacher_vectors, candidates = found[: len(maps)], found[len(maps) :]
        student_vectors = [
            singular_vectors.align(*pair)
            for pair in zip(candidates, teacher_vectors, strict=True)
        ]
        return student_vectors, teacher_vectors, stats

    def _compress(
        self, teacher: Sequence[jax.Array], student: Sequence[jax.Array] = ()
    ) -> list[jax.Array]:
        """Returns the vectors of the teacher's maps, then those of the student's."""
        return singular_vectors.compress_all(
            [*teacher, *student],
            [self._teacher_vectors] * len(teacher)
            + [self.student_vectors] * len(student),
            algorithm=self.algorithm,
            gradient="exact" if self.gradient == "projection" else self.gradient,
        )

    def _connectors(self, student: Outputs, teacher: Outputs) -> Connectors:
        """Connects the stages whose widths differ and passes the others through."""
        widths = tuple(
            None if x.shape[-1] == target.shape[-1] else target.shape[-1]
            for x, target in zip(
                student.features.post, teacher.features.post, strict=True
            )
        )
        return Connectors(widths, dtype=self.dtype, axis_name=self.batch_norm_axis)
