"""Feature distillation put together from parts, L = d(T_t(F_t), T_s(F_s)).

Every method of the overhaul paper's taxonomy that compares one stage with one stage is
such a composition; those of the papers are in files of their own, and a new one needs
no more than a configuration:

    config.methods.mine = {
        "method": "composed",
        "position": "pre",
        "teacher_transform": "attention_map",
        "student_transform": "attention_map",
        "distance": "l1",
        "weight": 100.0,
    }
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.distill import distances, overhaul, transforms
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Teacher, Variables
from kdjax.distill.modules.connectors import Connectors
from kdjax.distill.stages import (
    StagewiseMethod,
    check_selection,
    pool_pairs,
    selected,
)

#: When a student's feature passes a 1x1 convolution and batch norm, by the name used in
#: `connect`: never, where the widths differ, or at every stage.
CONNECT = ("never", "widths", "always")

#: Factors on the terms of n stages, by the name used in `stage_weights`.
STAGE_WEIGHTS: dict[str, Callable[[int], Sequence[float]]] = {
    "equal": lambda n: [1.0] * n,
    "halving": lambda n: [2.0 ** (i - n) for i in range(1, n + 1)],
}

#: What a transform of the teacher needs to know of it, one array a stage.
_CONSTANTS: dict[str, Callable[[Teacher], list[np.ndarray]]] = {
    "margin_relu": overhaul.measured_margins
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Composed(StagewiseMethod):
    """Compares stage with stage: position, transforms, distance.

    Where stages differ in height and width, the larger map is averaged down to the
    smaller first. The terms are `stage_1`, `stage_2`, ... .

    Attributes:
      stages: "all", "last", or numbers from 1 with commas, as "2" or "1,3".
      teacher_transform: a key of `transforms.TRANSFORMS`.
      student_transform: another, or the same.
      connect: whether the student's features pass a learned 1x1 convolution and batch
        norm to the teacher's width, of `CONNECT`.
      distance: a key of `distances.DISTANCES`.
      stage_weights: a key of `STAGE_WEIGHTS`.
    """

    name = "composed"
    taxonomy = Taxonomy(
        teacher_transform="as chosen",
        student_transform="as chosen",
        position="as chosen",
        distance="as chosen",
        missing_information="what the transform drops",
    )

    weight: float = 1.0
    stages: str = "all"
    teacher_transform: str = "identity"
    student_transform: str = "identity"
    connect: str = "widths"
    distance: str = "mean_squared"
    stage_weights: str = "equal"

    def __post_init__(self):
        super().__post_init__()
        check_selection(self.name, self.stages)
        self._require_choice("teacher_transform", transforms.TRANSFORMS)
        self._require_choice("student_transform", transforms.TRANSFORMS)
        self._require_choice("connect", CONNECT)
        self._require_choice("distance", distances.DISTANCES)
        self._require_choice("stage_weights", STAGE_WEIGHTS)
        if self.student_transform in _CONSTANTS:
            raise ValueError(
                f"methods.{self.name}.student_transform={self.student_transform!r} is "
                "for teachers alone"
            )
        if _CONSTANTS.get(self.teacher_transform) and self.position != "pre":
            raise ValueError(
                f"methods.{self.name}.teacher_transform={self.teacher_transform!r} "
                f"needs position='pre', not {self.position!r}"
            )

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors, if any; rejects stages that cannot be compared."""
        student_maps, teacher_maps = jax.eval_shape(self._maps, student, teacher)
        if self.connect == "never":
            self._check_widths(student_maps, teacher_maps)
            return {}
        features = [jnp.zeros(x.shape, x.dtype) for x in student_maps]
        return self._connectors(student_maps, teacher_maps).init(key, features)

    def precompute(self, teacher: Teacher) -> Variables:
        """Returns what the teacher's transform needs to know of the teacher."""
        constants = _CONSTANTS.get(self.teacher_transform)
        if constants is None:
            return {}
        found = [np.asarray(x, np.float32) for x in constants(teacher)]
        chosen = selected(self.name, self.stages, len(found))
        return {"constants": tuple(found[index] for index in chosen)}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted distance of every chosen stage, [B] each."""
        student_maps, teacher_maps = self._maps(student, teacher)
        stats = {}
        if self.connect != "never":
            student_maps, updates = self._connectors(student_maps, teacher_maps).apply(
                variables, student_maps, mutable=["batch_stats"]
            )
            stats = updates.get("batch_stats", {})
        transform_student = transforms.TRANSFORMS[self.student_transform]
        transform_teacher = transforms.TRANSFORMS[self.teacher_transform]
        distance = distances.DISTANCES[self.distance]
        count = len(teacher_maps)
        constants = [(x,) for x in precomputed.get("constants", ())] or [()] * count
        weights = STAGE_WEIGHTS[self.stage_weights](count)
        terms = {}
        for stage, (x, y, constant, weight) in enumerate(
            zip(student_maps, teacher_maps, constants, weights, strict=True), start=1
        ):
            terms[f"stage_{stage}"] = weight * distance(
                transform_student(x), transform_teacher(y, *constant)
            )
        return terms, stats

    def _maps(
        self, student: Outputs, teacher: Outputs
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """Returns the chosen stages, brought to equal height and width."""
        pairs = pool_pairs(*self._stages(student, teacher))
        pairs = [pairs[i] for i in selected(self.name, self.stages, len(pairs))]
        return tuple(zip(*pairs, strict=True))

    def _connectors(self, student, teacher) -> Connectors:
        return Connectors.between(
            student,
            teacher,
            always=self.connect == "always",
            dtype=self.dtype,
            axis_name=self.batch_norm_axis,
        )

    def _check_widths(self, student, teacher) -> None:
        """Rejects stages whose transformed features the distance cannot compare."""
        transform_student = transforms.TRANSFORMS[self.student_transform]
        transform_teacher = transforms.TRANSFORMS[self.teacher_transform]
        # Sets of channels may differ in their number.
        axes = slice(1, -1 if self.distance == "polynomial_mmd" else None)
        for stage, (x, y) in enumerate(zip(student, teacher, strict=True), start=1):
            constant = (
                (jax.ShapeDtypeStruct(y.shape[-1:], jnp.float32),)
                if self.teacher_transform in _CONSTANTS
                else ()
            )
            x = jax.eval_shape(transform_student, x).shape[axes]
            y = jax.eval_shape(transform_teacher, y, *constant).shape[axes]
            if x != y:
                raise ValueError(
                    f"methods.{self.name}: stage {stage} has {x} in the student and "
                    f"{y} in the teacher; connect='widths' joins different widths"
                )
