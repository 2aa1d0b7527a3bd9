"""FitNets: Romero et al., "FitNets: Hints for Thin Deep Nets" (ICLR 2015).

Matches a middle stage of the student, through a learned regressor, to the teacher's.
As in HobbitLong/RepDistiller, `HintLoss` and `ConvReg`, and in
sseung0703/KD_methods_with_TF, `FitNet`.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.modules.connectors import Connectors
from kdjax.distill.modules.regressors import TeacherRegressors
from kdjax.distill.stages import (
    StagewiseMethod,
    check_selection,
    pool_pairs,
    selected,
)

#: Whose features pass the regressor.
REGRESSORS = ("student", "teacher")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitnets(StagewiseMethod):
    """Mean squared difference of a middle stage, after a 1x1 regressor.

    The terms are `stage_1`, `stage_2`, ... , counting the selected stages. By default
    as in RepDistiller: the second stage, and a regressor of 1x1 convolution, batch norm
    and ReLU on the student, whatever the widths. As in KD_methods_with_TF it is

        {"position": "post", "regressor": "teacher", "stages": "all", "weight": 1.0}

    in 40 epochs of initialization (`config.distill_first.epochs`): all stages, and a
    1x1 convolution on the teacher where the widths differ. That convolution can make
    its task easy by shrinking the teacher's features.

    Differs from the original in: the paper trains the student up to the hint first,
    then by soft targets; here, as in RepDistiller, the hint stays a term of the loss
    unless `config.distill_first.epochs` says otherwise. Where sizes differ, the larger
    map is averaged down, where RepDistiller's regressor has a strided, a transposed or
    a larger convolution.

    Attributes:
      weight: RepDistiller's.
      stages: "all", "last", or numbers from 1 with commas, as "2" or "1,3".
      regressor: "student" or "teacher", whose features pass it.
    """

    name = "fitnets"
    taxonomy = Taxonomy(
        teacher_transform="none",
        student_transform="1x1 convolution, batch norm and ReLU",
        position="output of the last block of a middle stage",
        distance="L2",
        missing_information="none",
    )

    weight: float = 100.0
    stages: str = "2"
    regressor: str = "student"

    def __post_init__(self):
        super().__post_init__()
        check_selection(self.name, self.stages)
        self._require_choice("regressor", REGRESSORS)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the regressors; rejects stages that cannot be compared."""
        maps = jax.eval_shape(self._maps, student, teacher)
        features = maps[REGRESSORS.index(self.regressor)]
        return self._regressors(*maps).init(
            key, [jnp.zeros(x.shape, x.dtype) for x in features]
        )

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the mean squared difference of every selected stage, [B] each."""
        student_maps, teacher_maps = maps = self._maps(student, teacher)
        regressors = self._regressors(*maps)
        if self.regressor == "teacher":
            guesses, stats = student_maps, {}
            teacher_maps = regressors.apply(variables, teacher_maps)
        else:
            connected, updates = regressors.apply(
                variables, student_maps, mutable=["batch_stats"]
            )
            guesses, stats = map(nn.relu, connected), updates["batch_stats"]
        stages = enumerate(zip(guesses, teacher_maps, strict=True), start=1)
        return {f"stage_{stage}": losses.hint(*both) for stage, both in stages}, stats

    def _maps(
        self, student: Outputs, teacher: Outputs
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """Returns the selected stages, brought to equal height and width."""
        pairs = pool_pairs(*self._stages(student, teacher))
        pairs = [pairs[i] for i in selected(self.name, self.stages, len(pairs))]
        return tuple(zip(*pairs, strict=True))

    def _regressors(self, student, teacher) -> nn.Module:
        if self.regressor == "student":
            return Connectors.between(
                student,
                teacher,
                always=True,
                dtype=self.dtype,
                axis_name=self.batch_norm_axis,
            )
        widths = tuple(
            None if x.shape[-1] == y.shape[-1] else x.shape[-1]
            for x, y in zip(student, teacher, strict=True)
        )
        return TeacherRegressors(widths, dtype=self.dtype)
