"""MLKD: Jin, Wang and Lin, "Multi-Level Logit Distillation" (CVPR 2023).

Compares probabilities at several temperatures on three levels: of an example, of pairs
of examples, and of pairs of classes.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.kd import logits_of, require_temperature
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.relational import RelationalMethod
from kdjax.losses.mlkd import TEMPERATURES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mlkd(RelationalMethod):
    """Divergence, batch and class correlation, added up over temperatures.

    The terms are `divergence`, `batch_correlation` and `class_correlation`.

    Batch-relational: the last two relate the examples in `scope`.

    Differs from the original in: what `losses.mlkd` says; without the original's second
    view of each image, strongly augmented and with a cross-entropy of its own, its
    figures cannot be expected.

    Attributes:
      weight: factor on all three.
      temperatures: at which probabilities are compared.
      standardize: logits are standardized before they are divided, as in Sun et al.,
        "Logit Standardization in Knowledge Distillation" (CVPR 2024).
    """

    name = "mlkd"
    taxonomy = Taxonomy(
        teacher_transform="softmax at temperatures, and its products over the batch",
        student_transform="softmax at temperatures, and its products over the batch",
        position="logits",
        distance="KL(teacher || student) and L2",
        missing_information="all but the class probabilities",
    )
    needs_teacher_logits = True

    weight: float = 0.9
    temperatures: tuple[float, ...] = TEMPERATURES
    standardize: bool = False

    def __post_init__(self):
        super().__post_init__()
        if not self.temperatures:
            raise ValueError(f"methods.{self.name}.temperatures=() needs one or more")
        for temperature in self.temperatures:
            require_temperature(self, temperature)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the differences on each level, summed over temperatures, [B] each."""
        terms = losses.mlkd_terms(
            *logits_of((student, teacher), standardize=self.standardize),
            temperatures=self.temperatures,
            axis_name=self._relation_axis,
        )
        return terms, {}
