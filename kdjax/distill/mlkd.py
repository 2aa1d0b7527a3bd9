"""MLKD: Jin, Wang and Lin, "Multi-Level Logit Distillation" (CVPR 2023).

Compares probabilities at several temperatures on three levels: of an example, of pairs
of examples, and of pairs of classes.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.bases.relational import RelationalMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.losses.mlkd import TEMPERATURES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mlkd(LogitMethod, RelationalMethod):
    """Divergence, batch and class correlation, added up over temperatures.

    The terms are `divergence`, `batch_correlation` and `class_correlation`.

    Batch-relational: the last two relate the examples in `scope`.

    Differs from the original in: what `losses.mlkd` says; without the original's second
    view of each image, strongly augmented and with a cross-entropy of its own, its
    figures cannot be expected.

    Attributes:
      weight: factor on all three.
      temperatures: at which probabilities are compared.
    """

    name = "mlkd"
    taxonomy = Taxonomy(
        teacher_transform="softmax at temperatures, and its products over the batch",
        student_transform="softmax at temperatures, and its products over the batch",
        position="logits",
        distance="KL(teacher || student) and L2",
        missing_information="all but the class probabilities",
    )
    relational_terms = ("batch_correlation", "class_correlation")

    weight: float = 0.9
    temperatures: tuple[float, ...] = TEMPERATURES

    def __post_init__(self):
        LogitMethod.__post_init__(self)
        RelationalMethod.__post_init__(self)
        if not self.temperatures:
            raise ValueError(f"methods.{self.name}.temperatures=() needs one or more")
        for temperature in self.temperatures:
            self._require_above_zero("temperatures", temperature)

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
            *self._logits(student, teacher),
            temperatures=self.temperatures,
            axis_name=self._relation_axis,
        )
        return self._weighted(terms, student, teacher), {}
