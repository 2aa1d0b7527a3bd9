"""CTKD: Li et al., "Curriculum Temperature for Knowledge Distillation" (AAAI 2023).

KD at a temperature that learns to make the divergence large, ever more in the first
epochs. Original: zhengli97/CTKD.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ctkd(LogitMethod):
    """`losses.kd` at a learned temperature: the term `divergence`.

    One number learns, as a parameter beside the student's, weight decay included.

    Differs from the original in: what `losses.ctkd` says; the form with a temperature
    for each example is not there.

    Attributes:
      curriculum: epochs until the gradient of the temperature is reversed in full; 5
        for ImageNet.
      start: temperature above which all are.
      span: of the temperatures.
    """

    name = "ctkd"
    taxonomy = Taxonomy(
        teacher_transform="softmax at a learned temperature",
        student_transform="softmax at a learned temperature",
        position="logits",
        distance="KL(teacher || student)",
        missing_information="all but the class probabilities",
    )

    weight: float = 0.9
    curriculum: int = 10
    start: float = 1.0
    span: float = 20.0

    def __post_init__(self):
        super().__post_init__()
        self._require_positive("curriculum")
        for field in ("start", "span"):
            self._require_above_zero(field, getattr(self, field))

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the number behind the temperature, 1 as in the original."""
        return {"params": {"theta": jnp.ones(())}}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the divergence at the present temperature, [B]."""
        divergence = losses.ctkd(
            *self._logits(student, teacher),
            theta=variables["params"]["theta"],
            factor=losses.curriculum(inputs.epoch, length=self.curriculum),
            start=self.start,
            span=self.span,
        )
        return self._weighted({"divergence": divergence}, student, teacher), {}
