"""VID: Ahn et al., "Variational Information Distillation for Knowledge Transfer" (CVPR
2019).

Models the teacher's map as a Gaussian whose mean is regressed from the student's and
whose variance is learned, channel by channel. Original:
ssahn0215/variational-information-distillation; as in HobbitLong/RepDistiller,
`VIDLoss`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.modules.regressors import GaussianRegressor
from kdjax.distill.stages import StagewiseMethod, pool_pairs
from kdjax.losses.vid import MIN_VARIANCE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vid(StagewiseMethod):
    """Negative log-likelihood of the teacher's maps given the student's.

    The terms are `stage_1`, `stage_2`, ... . The variances are trained with the
    student, as in RepDistiller: codes that keep them out of the optimizer have another
    method.

    Differs from the original in: the larger map is averaged down where only height or
    only width is larger, too.

    Attributes:
      variance: initial variance of every channel.
    """

    name = "vid"
    taxonomy = Taxonomy(
        teacher_transform="none",
        student_transform="three 1x1 convolutions",
        position="output of the last block of a stage",
        distance="Gaussian negative log-likelihood",
        missing_information="none",
    )

    weight: float = 1.0
    variance: float = 5.0

    def __post_init__(self):
        super().__post_init__()
        if self.variance <= MIN_VARIANCE:
            raise ValueError(
                f"methods.vid.variance={self.variance} is not above {MIN_VARIANCE}"
            )

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes regressors and variances; rejects different numbers of stages."""
        features = self._stages(student, teacher)
        keys = jax.random.split(key, len(features[0]))
        params = {}
        for stage, (x, y, stage_key) in enumerate(
            zip(*features, keys, strict=True), start=1
        ):
            made = self._regressor(y).init(stage_key, jnp.zeros(x.shape, x.dtype))
            params[f"stage_{stage}"] = made["params"]
        return {"params": params}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the negative log-likelihood of every stage, [B] each."""
        pairs = pool_pairs(*self._stages(student, teacher))
        terms = {}
        for stage, (student_map, teacher_map) in enumerate(pairs, start=1):
            name = f"stage_{stage}"
            mean, raw_variance = self._regressor(teacher_map).apply(
                {"params": variables["params"][name]}, student_map
            )
            terms[name] = losses.vid(mean, teacher_map, raw_variance=raw_variance)
        return terms, {}

    def _regressor(self, teacher: jax.Array) -> GaussianRegressor:
        return GaussianRegressor(teacher.shape[-1], self.variance, self.dtype)
