"""RLD: Sun et al., "Knowledge Distillation with Refined Logits" (ICCV 2025).

DKD without the classes that the teacher wrongly thinks likelier than the true one.
Original: zju-SWJ/RLD.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rld(LogitMethod):
    """The terms `sample_confidence` (SCD) and `masked_correlation` (MCD).

    Differs from the original in: what `losses.rld` says.

    Attributes:
      weight: factor on both terms.
      warm_up: 20 epochs for CIFAR-100, 1 for ImageNet.
      temperature: T of MCD; 4 for CIFAR-100, 1 for ImageNet.
      confidence_temperature: T of SCD.
      alpha: factor on SCD.
      beta: factor on MCD; 8 in the original's settings for CIFAR-100, 0.5 for ImageNet.
    """

    name = "rld"
    needs_label = True
    least_classes = 2
    taxonomy = Taxonomy(
        teacher_transform="softmax, predicted class and those below the target apart",
        student_transform="softmax, target class and those below the target apart",
        position="logits",
        distance="KL(teacher || student) of each part",
        missing_information="classes above the target, and all but probabilities",
    )

    weight: float = 1.0
    warm_up: int = 20
    temperature: float = 4.0
    confidence_temperature: float = 1.0
    alpha: float = 1.0
    beta: float = 8.0

    def __post_init__(self):
        super().__post_init__()
        for field in ("temperature", "confidence_temperature"):
            self._require_above_zero(field, getattr(self, field))
        self._require_not_negative("alpha", "beta")

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted divergences of both parts, [B] each."""
        terms = losses.rld_terms(
            *self._logits(student, teacher),
            inputs.label,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
            confidence_temperature=self.confidence_temperature,
        )
        return self._weighted(terms, student, teacher), {}
