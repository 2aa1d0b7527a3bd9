"""VID: Ahn et al., "Variational Information Distillation for Knowledge Transfer" (CVPR
2019).

The student's map predicts the teacher's as a Gaussian whose mean is regressed and whose
variance is learned, channel by channel. Original:
ssahn0215/variational-information-distillation; as in HobbitLong/RepDistiller,
`VIDLoss`.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Variables
from kdjax.distill.stages import pool_larger, require_as_many
from kdjax.models import layers

#: No variance is less.
_LEAST_VARIANCE = 1e-5


def negative_log_likelihood(
    mean: jax.Array, teacher: jax.Array, *, raw_variance: jax.Array
) -> jax.Array:
    """Averages -log N(teacher; mean, variance) over the map, less a constant.

    Source: the paper's equations 5 and 6; as in RepDistiller, `VIDLoss.forward`.
    Differs from the original in: the mean stops at the example; large raw variances do
    not overflow.

    Args:
      mean: what the student predicts, [B, H, W, C].
      teacher: feature map of that shape.
      raw_variance: the variance is softplus of it and 1e-5, [C].

    Returns:
      [B], float32 or wider.
    """
    wide = jnp.promote_types(jnp.result_type(mean, teacher), jnp.float32)
    variance = jax.nn.softplus(raw_variance.astype(wide)) + _LEAST_VARIANCE
    variance = variance[None, None, None, :]
    square = jnp.square(mean.astype(wide) - teacher.astype(wide))
    return jnp.mean((square / variance + jnp.log(variance)) / 2, axis=(1, 2, 3))


class _Prediction(nn.Module):
    """Three 1x1 convolutions with ReLUs between, and a variance of each channel."""

    channels: int
    variance: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Maps [B, H, W, C_student] to a mean [B, H, W, C] and raw variances [C]."""
        for number in range(3):
            x = layers.convolution(
                self.channels,
                1,
                dtype=self.dtype,
                kernel_init=layers.torch_linear,
                name=f"conv{number + 1}",
            )(nn.relu(x) if number else x)
        # The inverse of softplus.
        start = math.log(math.expm1(self.variance - _LEAST_VARIANCE))
        raw = self.param(
            "raw_variance", nn.initializers.constant(start), (self.channels,)
        )
        return x, raw


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vid(Method):
    """Likelihood of the teacher's maps under what the student's predict.

    The terms are `stage_1`, `stage_2`, ... . The variances learn with the student, as
    in RepDistiller: codes that keep them out of the optimizer have another method.

    Differs from the original in: the larger map is averaged down where only height or
    only width is larger, too.

    Attributes:
      variance: of every channel at the start.
    """

    name = "vid"
    taxonomy = Taxonomy(
        teacher_transform="none",
        student_transform="three 1x1 convolutions",
        position="after the ReLU that ends a stage",
        distance="Gaussian negative log-likelihood",
        missing_information="none",
    )

    weight: float = 1.0
    variance: float = 5.0

    def __post_init__(self):
        if self.variance <= _LEAST_VARIANCE:
            raise ValueError(
                f"methods.vid.variance={self.variance} is not above {_LEAST_VARIANCE}"
            )

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes regressors and variances; refuses other numbers of stages."""
        ours, theirs = student.features.post, teacher.features.post
        require_as_many(self.name, ours, theirs)
        params = {}
        for stage, (x, y, stage_key) in enumerate(
            zip(ours, theirs, jax.random.split(key, len(ours)), strict=True), start=1
        ):
            made = self._prediction(y).init(stage_key, jnp.zeros(x.shape, x.dtype))
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
        pairs = pool_larger(student.features.post, teacher.features.post)
        terms = {}
        for stage, (ours, theirs) in enumerate(pairs, start=1):
            name = f"stage_{stage}"
            mean, raw_variance = self._prediction(theirs).apply(
                {"params": variables["params"][name]}, ours
            )
            terms[name] = negative_log_likelihood(
                mean, theirs, raw_variance=raw_variance
            )
        return terms, {}

    def _prediction(self, teacher: jax.Array) -> _Prediction:
        return _Prediction(teacher.shape[-1], self.variance, self.dtype)
