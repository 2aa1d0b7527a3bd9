"""WSLD: Zhou et al., "Rethinking Soft Labels for Knowledge Distillation: A
Bias-Variance Tradeoff Perspective" (ICLR 2021).

Soft labels count less for examples that the student fits better than the teacher.
Original: bellymonster/Weighted-Soft-Label-Distillation.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wsld(LogitMethod):
    """The weighted soft cross-entropy, times T^2: the term `cross_entropy`.

    Differs from the original in: what `losses.wsld` says.

    Attributes:
      weight: alpha of the original's code; 2.5 for ImageNet.
      temperature: T; 2 for ImageNet.
    """

    name = "wsld"
    needs_label = True
    least_classes = 2
    taxonomy = Taxonomy(
        teacher_transform="softmax at a temperature",
        student_transform="softmax at a temperature",
        position="logits",
        distance="cross-entropy, weighted by how both fit the label",
        missing_information="all but the class probabilities",
    )

    weight: float = 2.5
    temperature: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        self._require_above_zero("temperature", self.temperature)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted cross-entropy of every example, [B]."""
        cross_entropy = losses.wsld(
            *self._logits(student, teacher), inputs.label, temperature=self.temperature
        )
        return self._weighted({"cross_entropy": cross_entropy}, student, teacher), {}
