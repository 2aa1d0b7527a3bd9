"""KD: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).

Matches the student's softened class probabilities to the teacher's.
"""

import dataclasses
from collections.abc import Iterable

import jax

from kdjax import losses
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Variables

#: Factors on the divergence at temperature T, by the name used in `scale`.
SCALES = ("squared_temperature", "none")


def require_temperature(method: Method, temperature: float) -> None:
    """Raises a ValueError if a method's temperature is not positive."""
    if not temperature > 0:
        raise ValueError(
            f"methods.{method.name}.temperature={temperature} is not above 0"
        )


def logits_of(
    networks: Iterable[Outputs], *, standardize: bool
) -> tuple[jax.Array, ...]:
    """Returns the logits of student and teacher, standardized if asked for."""
    logits = (outputs.logits for outputs in networks)
    return tuple(map(losses.standardize_logits, logits) if standardize else logits)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kd(Method):
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
      standardize: logits are standardized before they are divided.
    """

    name = "kd"
    taxonomy = Taxonomy(
        teacher_transform="softmax at a temperature",
        student_transform="softmax at a temperature",
        position="logits",
        distance="KL(teacher || student)",
        missing_information="all but the class probabilities",
    )
    needs_teacher_logits = True

    weight: float = 0.9
    temperature: float = 4.0
    scale: str = "squared_temperature"
    standardize: bool = False

    def __post_init__(self):
        require_temperature(self, self.temperature)
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
        logits = logits_of((student, teacher), standardize=self.standardize)
        divergence = losses.kd(*logits, temperature=self.temperature)
        if self.scale == "none":
            divergence = divergence / self.temperature**2
        return {"divergence": divergence}, {}
