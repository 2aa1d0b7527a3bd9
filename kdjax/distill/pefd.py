"""PEFD: Chen et al., "Improved Feature Distillation via Projector Ensemble" (NeurIPS
2022).

Matches the direction of the teacher's pooled features by a mean of projections.
Original: chenyd7/PEFD.
"""

import dataclasses

import flax.linen as nn
import jax

from kdjax import losses
from kdjax.distill.bases.projected import ProjectedMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pefd(ProjectedMethod):
    """1 - cos of the teacher's features and three projections' mean: the term `cosine`.

    Differs from the original in: what `losses.cosine_distance` says.

    Attributes:
      weight: of the original's commands for CIFAR-100.
    """

    name = "pefd"
    taxonomy = Taxonomy(
        teacher_transform="none",
        student_transform="mean of three linear layers with ReLU",
        position="pooled features",
        distance="1 - cosine",
        missing_information="the length of the features",
    )
    projectors = 3

    weight: float = 25.0

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the distance of the directions, [B]."""
        projected = self._projected(variables, student, teacher)
        mean = sum(map(nn.relu, projected)) / len(projected)
        return {"cosine": losses.cosine_distance(mean, teacher.features.pooled)}, {}
