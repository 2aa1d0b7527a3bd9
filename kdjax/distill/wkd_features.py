"""WKD-F: Lv, Yang and Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for
Knowledge Distillation" (NeurIPS 2024).

Matches mean and deviation of each channel over the last map. Original: JiamingLv/WKD.
"""

import dataclasses

import flax.linen as nn
import jax

from kdjax import losses
from kdjax.distill.last_stage import LastStageMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class WkdFeatures(LastStageMethod):
    """Distance of two Gaussians, channel by channel: the term `distance`.

    Differs from the original in: what `losses.wkd_features` says; where sizes differ,
    the original's convolution is strided, transposed or larger, here it is 1x1; it
    lowers the weight by a cosine after epoch 150 of 240, which is not followed.

    Attributes:
      weight: 0.08 for resnet32x4-resnet8x4, 0.3 for wrn_40_2-shufflenet_v1.
      mean_weight: factor on the means; 4 and 3 for these pairs.
      grid: cells of the map along each side; 1 and 4 for these pairs.
    """

    name = "wkd_features"
    taxonomy = Taxonomy(
        teacher_transform="mean and deviation of each channel",
        student_transform="1x1 convolution, batch norm and ReLU, then the same",
        position="output of the last block of the last stage",
        distance="Wasserstein distance of Gaussians",
        missing_information="all but two moments of each channel",
    )

    weight: float = 0.08
    mean_weight: float = 4.0
    grid: int = 1

    def __post_init__(self):
        super().__post_init__()
        self._require_not_negative("mean_weight")
        self._require_positive("grid")

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the distance of the Gaussians, [B]."""
        connected, stats = self._connected(variables, student, teacher)
        distance = losses.wkd_features(
            nn.relu(connected),
            self._last(teacher),
            mean_weight=self.mean_weight,
            grid=self.grid,
        )
        return {"distance": distance}, stats
