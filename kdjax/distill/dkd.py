"""DKD: Zhao et al., "Decoupled Knowledge Distillation" (CVPR 2022).

Splits the divergence of KD into target-class (TCKD) and non-target-class (NCKD) parts;
KD weights NCKD by 1 - p_target.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.decoupled import DecoupledMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dkd(DecoupledMethod):
    """alpha TCKD + beta NCKD: the terms `target_class` and `non_target_class`.

    Differs from the original in: what `losses.dkd` says; two classes are rejected,
    whose NCKD is always zero.

    Attributes:
      weight: factor on both terms.
      warm_up: 20 epochs for CIFAR-100, 1 for ImageNet.
      temperature: T; 4 for CIFAR-100, 1 for ImageNet.
      alpha: factor on TCKD.
      beta: factor on NCKD. For CIFAR-100 8, or 2 for resnet56-resnet20 and
        resnet110-resnet32, or 6 for pairs of wide ResNets and from vgg13; for ImageNet
        0.5 or 2.
    """

    name = "dkd"
    # NCKD is always zero for two.
    least_classes = 3
    taxonomy = Taxonomy(
        teacher_transform="softmax at a temperature, target class and others apart",
        student_transform="softmax at a temperature, target class and others apart",
        position="logits",
        distance="KL(teacher || student) of each part",
        missing_information="all but the class probabilities",
    )

    weight: float = 1.0
    warm_up: int = 20
    temperature: float = 4.0
    alpha: float = 1.0
    beta: float = 8.0

    def __post_init__(self):
        super().__post_init__()
        self._require_above_zero("temperature", self.temperature)
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
        terms = losses.dkd_terms(
            *self._logits(student, teacher),
            inputs.label,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
        )
        return self._weighted(terms, student, teacher), {}
