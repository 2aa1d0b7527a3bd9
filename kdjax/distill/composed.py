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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.distill import distances, overhaul, transforms
from kdjax.distill.method import (
    Inputs,
    Method,
    Outputs,
    Taxonomy,
    Teacher,
    Variables,
)
from kdjax.distill.modules.connectors import Connectors
from kdjax.distill.stages import pool_larger, require_as_many

#: Where in a network features are taken, by the name used in `position`.
POSITIONS = ("post", "pre")

#: When a student's feature passes a 1x1 convolution and batch norm, by the name used in
#: `connect`: never, where the widths differ, or at every stage.
CONNECT = ("never", "widths", "always")

#: Factors on the terms of n stages, by the name used in `stage_weights`.
STAGE_WEIGHTS: dict[str, Callable[[int], Sequence[float]]] = {
    "equal": lambda n: [1.0] * n,
    "halving": lambda n: [2.0 ** (i - n) for i in range(1, n + 1)],
}

#: What a transform of the teacher reads off it, one array a stage.
_READ_OFF: dict[str, Callable[[Teacher], list[np.ndarray]]] = {
    "margin_relu": overhaul.measured_margins
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Composed(Method):
    """Compares stage with stage: position, transforms, distance.

    Where stages differ in height and width, the larger map is averaged down to the
    smaller first. The terms are `stage_1`, `stage_2`, ... .

    Attributes:
      position: "post", after the ReLU that ends a stage, or "pre", before it.
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
    position: str = "post"
    stages: str = "all"
    teacher_transform: str = "identity"
    student_transform: str = "identity"
    connect: str = "widths"
    distance: str = "mean_squared"
    stage_weights: str = "equal"

    def __post_init__(self):
        self._require_choice("position", POSITIONS)
        self._require_choice("teacher_transform", transforms.TRANSFORMS)
        self._require_choice("student_transform", transforms.TRANSFORMS)
        self._require_choice("connect", CONNECT)
        self._require_choice("distance", distances.DISTANCES)
        self._require_choice("stage_weights", STAGE_WEIGHTS)
        if self.student_transform in _READ_OFF:
            raise ValueError(
                f"methods.{self.name}.student_transform={self.student_transform!r} is "
                "for teachers alone"
            )
        if _READ_OFF.get(self.teacher_transform) and self.position != "pre":
            raise ValueError(
                f"methods.{self.name}.teacher_transform={self.teacher_transform!r} "
                f"needs position='pre', not {self.position!r}"
            )
        chosen = self.stages.split(",")
        if self.stages not in ("all", "last") and not all(
            number.strip().isdecimal() and int(number) > 0 for number in chosen
        ):
            raise ValueError(
                f"methods.{self.name}.stages={self.stages!r} is neither 'all', 'last' "
                "nor numbers from 1 with commas"
            )

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the connectors, if any; refuses stages that cannot be compared."""
        pairs = jax.eval_shape(self._pairs, student, teacher)
        if self.connect == "never":
            self._check_widths(pairs)
            return {}
        features = [jnp.zeros(ours.shape, ours.dtype) for ours, _ in pairs]
        return self._connectors(pairs).init(key, features)

    def precompute(self, teacher: Teacher) -> Variables:
        """Returns what the teacher's transform reads off the teacher."""
        read_off = _READ_OFF.get(self.teacher_transform)
        if read_off is None:
            return {}
        found = [np.asarray(x, np.float32) for x in read_off(teacher)]
        return {"read_off": tuple(found[index] for index in self._chosen(len(found)))}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted distance of every chosen stage, [B] each."""
        pairs = self._pairs(student, teacher)
        ours, theirs = zip(*pairs, strict=True)
        stats = {}
        if self.connect != "never":
            ours, updates = self._connectors(pairs).apply(
                variables, ours, mutable=["batch_stats"]
            )
            stats = updates.get("batch_stats", {})
        of_teacher = transforms.TRANSFORMS[self.teacher_transform]
        student_objective = transforms.TRANSFORMS[self.student_transform]
        distance = distances.DISTANCES[self.distance]
        read_off = [(x,) for x in precomputed.get("read_off", ())] or [()] * len(pairs)
        weights = STAGE_WEIGHTS[self.stage_weights](len(pairs))
        terms = {}
        for stage, (x, y, constant, factor) in enumerate(
            zip(ours, theirs, read_off, weights, strict=True), start=1
        ):
            terms[f"stage_{stage}"] = factor * distance(
                student_objective(x), of_teacher(y, *constant)
            )
        return terms, stats

    def _chosen(self, number: int) -> list[int]:
        """Returns the places of the chosen stages among so many."""
        if self.stages == "all":
            return list(range(number))
        if self.stages == "last":
            return [number - 1]
        chosen = [int(stage) - 1 for stage in self.stages.split(",")]
        if max(chosen) >= number:
            raise ValueError(
                f"methods.{self.name}.stages={self.stages!r}, but the networks have "
                f"{number} stages"
            )
        return chosen

    def _pairs(
        self, student: Outputs, teacher: Outputs
    ) -> list[tuple[jax.Array, jax.Array]]:
        """Pairs the chosen stages, brought to equal height and width."""
        ours, theirs = (
            getattr(outputs.features, self.position) for outputs in (student, teacher)
        )
        require_as_many(self.name, ours, theirs)
        chosen = self._chosen(len(ours))
        return pool_larger([ours[i] for i in chosen], [theirs[i] for i in chosen])

    def _connectors(self, pairs: Sequence[tuple[jax.Array, jax.Array]]) -> Connectors:
        widths = tuple(
            None
            if self.connect == "widths" and ours.shape[-1] == theirs.shape[-1]
            else theirs.shape[-1]
            for ours, theirs in pairs
        )
        return Connectors(widths, dtype=self.dtype, axis_name=self.batch_norm_axis)

    def _check_widths(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """Refuses stages whose transformed features have other shapes."""
        for stage, (ours, theirs) in enumerate(pairs, start=1):
            read_off = (
                (jax.ShapeDtypeStruct(theirs.shape[-1:], jnp.float32),)
                if self.teacher_transform in _READ_OFF
                else ()
            )
            x = jax.eval_shape(transforms.TRANSFORMS[self.student_transform], ours)
            y = jax.eval_shape(
                transforms.TRANSFORMS[self.teacher_transform], theirs, *read_off
            )
            if x.shape != y.shape:
                raise ValueError(
                    f"methods.{self.name}: stage {stage} has {x.shape[1:]} in the "
                    f"student and {y.shape[1:]} in the teacher; connect='widths' "
                    "joins widths that differ"
                )
