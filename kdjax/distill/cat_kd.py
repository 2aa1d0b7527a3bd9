"""CAT-KD: Guo et al., "Class Attention Transfer Based Knowledge Distillation" (CVPR
2023).

Matches class activation maps, which both networks' classifiers make. Original:
GzyAftermath/CAT-KD.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Variables
from kdjax.distill.stages import require_classified_map


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatKd(Method):
    """Squared differences of the class activation maps: the term `attention`.

    Differs from the original in: what `losses.class_attention` says; the networks keep
    the bias of their classifiers, which the original's have not.

    Attributes:
      weight: beta of the paper, of resnet32x4-resnet8x4; others by pair.
      resolution: height and width of the maps.
      normalize: whether maps are scaled to length 1, as for pairs of unlike networks.
    """

    name = "cat_kd"
    needs_teacher_logits = True
    needs_classifier = True
    taxonomy = Taxonomy(
        teacher_transform="class activation maps of a low resolution",
        student_transform="class activation maps of a low resolution",
        position="last map and classifier",
        distance="L2",
        missing_information="what the classifier does not read",
    )

    weight: float = 15.0
    resolution: int = 2
    normalize: bool = False

    def __post_init__(self):
        self._require_positive("resolution")

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Learns nothing; rejects classifiers that do not read the last map."""
        require_classified_map(self.name, student, teacher)
        return {}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the mean squared difference of the maps, [B]."""
        attention = losses.class_attention(
            student.features.last,
            teacher.features.last,
            student_kernel=student.classifier.kernel,
            teacher_kernel=teacher.classifier.kernel,
            resolution=self.resolution,
            normalize=self.normalize,
        )
        return {"attention": attention}, {}
