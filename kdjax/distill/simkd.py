"""SimKD: Chen et al., "Knowledge Distillation with the Reused Teacher Classifier" (CVPR
2022).

The student's last map, projected to the teacher's width, is classified by the teacher's
classifier. Only the maps are compared. Original: DefangChen/SimKD, `models/util.py`.
"""

import dataclasses

import flax.linen as nn
import jax

from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Variables
from kdjax.distill.modules.reused_classifier import Projector, ReusedClassifier
from kdjax.distill.stages import require_classified_map
from kdjax.losses.elementwise import mean_squared
from kdjax.losses.pooling import pool_larger


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simkd(Method):
    """Squared differences of the last maps, the student's projected: the term `map`.

    The projector and the teacher's classifier stay in the student after the training.
    As published there is no other loss: `task_weight` is 0.

    Differs from the original in: where sizes differ in one direction only, each of
    height and width is matched on its own.

    Attributes:
      weight: 1 as published.
      factor: by which the middle of the projector is narrower than the teacher's map;
        4 and 8 save parameters.
    """

    name = "simkd"
    brings_head = True
    takes_from_teacher = ("classifier",)
    taxonomy = Taxonomy(
        teacher_transform="none",
        student_transform="three convolutions with batch norm and ReLU, which it keeps",
        position="last map; the student has the teacher's classifier",
        distance="L2",
        missing_information="none",
    )

    weight: float = 1.0
    factor: int = 2

    def __post_init__(self):
        self._require_positive("factor")

    def with_head(
        self, network: nn.Module, student: Outputs, teacher: Outputs
    ) -> nn.Module:
        """Returns the network with the projector and a classifier of that width."""
        require_classified_map(self.name, student, teacher)
        _, height, width, channels = teacher.features.last.shape
        if self.factor > channels:
            raise ValueError(
                f"methods.{self.name}.factor={self.factor} is more than the {channels} "
                "channels of the teacher's last map"
            )
        projector = Projector(
            channels, self.factor, dtype=self.dtype, axis_name=self.batch_norm_axis
        )
        return ReusedClassifier(network, projector, (height, width))

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the mean squared difference of the maps, [B]."""
        maps = pool_larger(student.features.last, teacher.features.last)
        return {"map": mean_squared(*maps)}, {}
