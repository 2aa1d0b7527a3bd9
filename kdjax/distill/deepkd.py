"""DeepKD: Huang et al., "DeepKD: A Deeply Decoupled and Denoised Knowledge Distillation
Trainer" (NeurIPS 2025).

KD whose parts, and the task, each have a momentum of their own; see
`distill.gradients.momenta`. DKD with the rule "by_term" is DeepKD of DKD.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.decoupled import DecoupledMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deepkd(DecoupledMethod):
    """KD in two parts: the terms `target_class` and `non_target_class`.

    Differs from the original in: what `losses.deepkd_terms` and
    `gradients.momenta.with_momenta` say; the share of the classes grows by a straight
    line, where the paper's stays at a fixed number in between, which it searches.

    Attributes:
      weight: factor on both terms.
      temperature: T; 4 for CIFAR-100, 1 for ImageNet.
      first_share: of the classes, the teacher's most likely ones, that are compared at
        the start; it grows to all at the end. 1 compares all, as the released settings
        do; 0.05 in the paper.
    """

    name = "deepkd"
    least_classes = 2
    taxonomy = Taxonomy(
        teacher_transform="softmax at a temperature, target class and others apart",
        student_transform="softmax at a temperature, target class and others apart",
        position="logits",
        distance="KL(teacher || student) of each part, with momenta of their own",
        missing_information="all but the class probabilities, unlikely ones at first",
    )

    weight: float = 1.0
    gradient_combination: str = "by_term"
    temperature: float = 4.0
    first_share: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        self._require_above_zero("temperature", self.temperature)
        if not 0 < self.first_share <= 1:
            raise ValueError(
                f"methods.{self.name}.first_share={self.first_share} is not in (0, 1]"
            )

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the divergences of both parts, [B] each."""
        share = 1.0
        if self.first_share < 1:
            share = self.first_share + (1 - self.first_share) * inputs.progress
        terms = losses.deepkd_terms(
            *self._logits(student, teacher),
            inputs.label,
            temperature=self.temperature,
            share=share,
        )
        return self._weighted(terms, student, teacher), {}
