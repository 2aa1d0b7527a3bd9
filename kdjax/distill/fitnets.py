"""FitNets: Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015).

A middle stage of the student, through a learned regressor, is drawn to the teacher's.
As in HobbitLong/RepDistiller, `HintLoss` and `ConvReg`, and in
sseung0703/KD_methods_with_TF, `FitNet`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.distill import distances
from kdjax.distill.composed import Composed
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.models import layers

#: Whose features pass the regressor, by the name used in `methods.fitnets.regressor`.
REGRESSORS = ("student", "teacher")


class TeacherMaps(nn.Module):
    """One 1x1 convolution a stage, on the teacher's features.

    Attributes:
      channels: the student's width at each stage; None passes a stage through.
      dtype: type of the computation.
    """

    channels: Sequence[int | None]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        """Maps [B, H, W, C_teacher] of each stage to [B, H, W, C_student]."""
        return [
            x
            if width is None
            else layers.convolution(
                width, 1, dtype=self.dtype, name=f"stage{number}_conv"
            )(x)
            for number, (x, width) in enumerate(
                zip(features, self.channels, strict=True), start=1
            )
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitnets(Composed):
    """Mean squared difference of a middle stage, behind a 1x1 regressor.

    By default as in RepDistiller: the second stage, and a regressor of 1x1 convolution,
    batch norm and ReLU on the student, always there. As in KD_methods_with_TF it is

        {"regressor": "teacher", "stages": "all", "weight": 1.0}

    in 40 epochs of initialization (`config.distill_first.epochs`): all stages, and a
    1x1 convolution on the teacher, only where the widths differ. That convolution can
    make its task easy by shrinking the teacher's features.

    Differs from the original in: the paper trains the student up to the hint first,
    then by soft targets; here, as in RepDistiller, the hint stays a term of the loss
    unless `config.distill_first.epochs` says otherwise. Where sizes differ, the larger
    map is averaged down, where RepDistiller's regressor has a strided, a transposed or
    a larger convolution.

    Attributes:
      weight: RepDistiller's.
      regressor: "student" or "teacher". With "teacher", of the settings of `Composed`
        only `position`, `stages` and `distance` have an effect.
    """

    name = "fitnets"
    taxonomy = Taxonomy(
        teacher_transform="none",
        student_transform="1x1 convolution, batch norm and ReLU",
        position="after the ReLU that ends a middle stage",
        distance="L2",
        missing_information="none",
    )

    weight: float = 100.0
    stages: str = "2"
    connect: str = "always"
    student_transform: str = "relu"
    regressor: str = "student"

    def __post_init__(self):
        super().__post_init__()
        self._require_choice("regressor", REGRESSORS)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the regressors; refuses stages that cannot be compared."""
        if self.regressor == "student":
            return super().init(key, student, teacher)
        pairs = jax.eval_shape(self._pairs, student, teacher)
        features = [jnp.zeros(theirs.shape, theirs.dtype) for _, theirs in pairs]
        return self._maps(pairs).init(key, features)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the distance of every chosen stage, [B] each."""
        if self.regressor == "student":
            return super().loss(variables, precomputed, student, teacher, inputs)
        pairs = self._pairs(student, teacher)
        ours, theirs = zip(*pairs, strict=True)
        mapped = self._maps(pairs).apply(variables, theirs)
        distance = distances.DISTANCES[self.distance]
        stages = enumerate(zip(ours, mapped, strict=True), start=1)
        return {f"stage_{stage}": distance(*both) for stage, both in stages}, {}

    def _maps(self, pairs: Sequence[tuple[jax.Array, jax.Array]]) -> TeacherMaps:
        widths = tuple(
            None if ours.shape[-1] == theirs.shape[-1] else ours.shape[-1]
            for ours, theirs in pairs
        )
        return TeacherMaps(widths, dtype=self.dtype)
