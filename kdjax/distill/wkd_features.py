"""WKD-F: Lv, Yang and Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for
Knowledge Distillation" (NeurIPS 2024).

Matches mean and deviation of each channel over the last map. Original: JiamingLv/WKD.
"""

import dataclasses

import flax.linen as nn
import jax

from kdjax import losses
from kdjax.distill.bases.last_stage import LastStageMethod
from kdjax.distill.decay import cosine_decay
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class WkdFeatures(LastStageMethod):
    """Distance of two Gaussians, channel by channel: the term `distance`.

    Differs from the original in: what `losses.wkd_features` says; where sizes differ,
    the original's convolution is strided, transposed or larger, and for ImageNet there
    are three of them; here it is 1x1. The term falls at every step, not epoch.

    Attributes:
      weight: 0.08 for resnet32x4-resnet8x4, 0.3 for wrn_40_2-shufflenet_v1.
      mean_weight: factor on the means; 4 and 3 for these pairs.
      grid: cells of the map along each side; 1 and 4 for these pairs.
      decay_from: fraction of the training from which the term falls to 0 by a cosine;
        150 of 240 epochs for CIFAR-100, 0 for ImageNet, 1 for never.
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
    decay_from: float = 0.625

    def __post_init__(self):
        super().__post_init__()
        self._require_not_negative("mean_weight", "decay_from")
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
        decay = cosine_decay(inputs.progress, self.decay_from)
        return {"distance": decay * distance}, stats
