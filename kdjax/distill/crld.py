"""CRLD: Zhang et al., "Cross-View Consistency Regularisation for Knowledge
Distillation" (ACM MM 2024).

Lets each network's answer to one view of an image teach and learn from the other's to
both. As in haiduo/DeepKD, `mdistiller/distillers/CRLD.py`.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crld(LogitMethod):
    """Divergences within a view and across two: `within_view` and `cross_view`.

    Both views have a cross-entropy, `task_weight` times; `data.second_view` augments
    the second one strongly.

    Differs from the original in: what `losses.crld_terms` says.

    Attributes:
      weight: factor on both terms.
      within_weight: factor on `within_view`; by pair.
      cross_weight: factor on `cross_view`.
      temperature: of the softmax.
      confidence: which the teacher must have in its answer to the first view.
      second_confidence: the same for the second view.
    """

    name = "crld"
    needs_second_view = True
    taxonomy = Taxonomy(
        teacher_transform="softmax of two views, where it is sure",
        student_transform="softmax of two views",
        position="logits",
        distance="KL(teacher || student)",
        missing_information="all but the class probabilities",
    )

    weight: float = 1.0
    within_weight: float = 2.0
    cross_weight: float = 0.5
    temperature: float = 4.0
    confidence: float = 0.9
    second_confidence: float = 0.2

    def __post_init__(self):
        super().__post_init__()
        self._require_above_zero("temperature", self.temperature)
        self._require_not_negative("within_weight", "cross_weight")
        for field in ("confidence", "second_confidence"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(
                    f"methods.{self.name}.{field}={getattr(self, field)} is no "
                    "probability"
                )
        self._refuse_example_weight()

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted divergences, [B] each."""
        terms = losses.crld_terms(
            *self._logits(student, teacher),
            *self._logits(student.second_view, teacher.second_view),
            temperature=self.temperature,
            confidence=self.confidence,
            second_confidence=self.second_confidence,
        )
        weights = {"within_view": self.within_weight, "cross_view": self.cross_weight}
        return {name: weights[name] * term for name, term in terms.items()}, {}
