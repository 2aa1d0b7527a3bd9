"""TTM: Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching"
(ICLR 2024).

Softens the teacher's probabilities by a power and leaves the student's alone. Original:
zkxufo/TTM.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ttm(LogitMethod):
    """KL(q || student), q the power of the teacher's probabilities: `divergence`.

    Differs from the original in: what `losses.ttm` says.

    Attributes:
      weight: beta of the paper, chosen for each pair; 45 for vgg13-vgg8, the only one
        that the original names.
      exponent: gamma of the paper, also chosen for each pair.
    """

    name = "ttm"
    taxonomy = Taxonomy(
        teacher_transform="power of the softmax, scaled to sum 1",
        student_transform="softmax",
        position="logits",
        distance="KL(teacher || student)",
        missing_information="all but the class probabilities",
    )
    _divergence: ClassVar[Callable[..., jax.Array]] = staticmethod(losses.ttm)

    weight: float = 45.0
    exponent: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        self._require_above_zero("exponent", self.exponent)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the divergence of the student from the power, [B]."""
        divergence = self._divergence(
            *self._logits(student, teacher), exponent=self.exponent
        )
        return self._weighted({"divergence": divergence}, student, teacher), {}
