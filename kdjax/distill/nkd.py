"""NKD: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A
Unified Approach with Normalized Loss and Customized Soft Labels" (ICCV 2023).

Cross-entropies with the teacher's probabilities, the true class apart from the others.
Original: yzd-v/cls_KD.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nkd(LogitMethod):
    """The terms `target_class` and `non_target_class`, the second times gamma.

    Differs from the original in: what `losses.nkd` says.

    Attributes:
      weight: factor on both terms.
      temperature: T of the other classes; 1 for ImageNet, 3 in the original's settings
        for CIFAR-100.
      gamma: factor on the other classes; 1.5 for ImageNet, 3.5 for CIFAR-100.
    """

    name = "nkd"
    needs_label = True
    least_classes = 2
    taxonomy = Taxonomy(
        teacher_transform="softmax, target class and others apart",
        student_transform="softmax, target class and others apart",
        position="logits",
        distance="cross-entropy of each part",
        missing_information="all but the class probabilities",
    )

    weight: float = 1.0
    temperature: float = 1.0
    gamma: float = 1.5

    def __post_init__(self):
        super().__post_init__()
        self._require_above_zero("temperature", self.temperature)
        self._require_not_negative("gamma")

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the cross-entropies of both parts, [B] each."""
        terms = losses.nkd_terms(
            *self._logits(student, teacher),
            inputs.label,
            gamma=self.gamma,
            temperature=self.temperature,
        )
        return self._weighted(terms, student, teacher), {}
