"""KD: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).

Matches the student's softened class probabilities to the teacher's.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables

#: Factors on the divergence at temperature T, by the name used in `scale`.
SCALES = ("squared_temperature", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kd(LogitMethod):
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the term `divergence`.

    Published as 0.9 of this and 0.1 of the cross-entropy: `config.task_weight = 0.1`
    with the weight of 0.9 here. With standardized logits, 0.1 of the cross-entropy,
    T = 2 and a weight of 9. In the code of MHGD, 0.7 of the cross-entropy and 0.3 of
    this, with `scale="none"`.

    Differs from the original in: what `losses.kd` says.

    Attributes:
      temperature: T, by which logits are divided.
      scale: "squared_temperature", so that gradients keep their size when T changes,
        or "none", as released with MHGD.
    """

    name = "kd"
    taxonomy = Taxonomy(
        teacher_transform="softmax at a temperature",
        student_transform="softmax at a temperature",
        position="logits",
        distance="KL(teacher || student)",
        missing_information="all but the class probabilities",
    )

    weight: float = 0.9
    temperature: float = 4.0
    scale: str = "squared_temperature"

    def __post_init__(self):
        super().__post_init__()
        self._require_above_zero("temperature", self.temperature)
        self._require_choice("scale", SCALES)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the scaled divergence of the student from the teacher, [B]."""
        divergence = losses.kd(
            *self._logits(student, teacher), temperature=self.temperature
        )
        if self.scale == "none":
            divergence = divergence / self.temperature**2
        return self._weighted({"divergence": divergence}, student, teacher), {}
