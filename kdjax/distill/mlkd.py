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
from kdjax.losses.mlkd import SECOND_TEMPERATURES, TEMPERATURES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mlkd(LogitMethod, RelationalMethod):
    """Divergence, batch and class correlation, added up over temperatures.

    The terms are `divergence`, `batch_correlation` and `class_correlation`.

    Batch-relational: the last two relate the examples in `scope`.

    With two views it is the released code: `data.second_view` augments the second one
    strongly, and both have a cross-entropy (`task_weight` 0.1 as released). With one it
    lacks these, and its figures cannot be expected.

    Differs from the original in: with one view, what `losses.mlkd` says.

    Attributes:
      weight: factor on all three.
      temperatures: at which probabilities are compared.
      views: of each image, 1 or 2.
      second_temperatures: those of them at which second views are compared.
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
    views: int = 1
    second_temperatures: tuple[float, ...] = SECOND_TEMPERATURES

    @property
    def needs_second_view(self) -> bool:
        """Whether it compares two views of each image."""
        return self.views == 2

    def __post_init__(self):
        LogitMethod.__post_init__(self)
        RelationalMethod.__post_init__(self)
        if not self.temperatures:
            raise ValueError(f"methods.{self.name}.temperatures=() needs one or more")
        for field in ("temperatures", "second_temperatures"):
            for temperature in getattr(self, field):
                self._require_above_zero(field, temperature)
        self._require_choice("views", (1, 2))
        if self.views == 1:
            return
        if not set(self.second_temperatures) < set(self.temperatures):
            raise ValueError(
                f"methods.{self.name}.second_temperatures={self.second_temperatures} "
                f"are not some of temperatures={self.temperatures}, but not all"
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
        """Returns the differences on each level, summed over temperatures, [B] each."""
        first = self._logits(student, teacher)
        settings = {
            "temperatures": self.temperatures,
            "axis_name": self._relation_axis,
        }
        if self.views == 1:
            terms = losses.mlkd_terms(*first, **settings)
            return self._weighted(terms, student, teacher), {}
        terms = losses.mlkd_two_view_terms(
            *first,
            *self._logits(student.second_view, teacher.second_view),
            second_temperatures=self.second_temperatures,
            confidence_logits=teacher.logits,
            **settings,
        )
        return terms, {}
