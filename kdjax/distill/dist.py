"""DIST: Huang et al., "Knowledge Distillation from A Stronger Teacher" (NeurIPS 2022).

Matches correlations of probabilities over classes and over the examples of a batch.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.bases.relational import RelationalMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dist(LogitMethod, RelationalMethod):
    """beta (1 - correlation over classes) + gamma (1 - that over the batch), times T^2.

    The terms are `inter_class`, over the classes of every example, and `intra_class`,
    the mean over classes of that over the batch, the same for every example.

    Batch-relational: the second relates the examples in `scope`.

    Differs from the original in: what `losses.dist` says.

    Attributes:
      temperature: T, called tau in the paper.
      beta: factor on the first.
      gamma: factor on the second.
    """

    name = "dist"
    taxonomy = Taxonomy(
        teacher_transform="softmax at a temperature",
        student_transform="softmax at a temperature",
        position="logits",
        distance="1 - Pearson correlation, over classes and over the batch",
        missing_information="mean and spread of the probabilities",
    )
    relational_terms = ("intra_class",)

    weight: float = 1.0
    temperature: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0

    def __post_init__(self):
        LogitMethod.__post_init__(self)
        RelationalMethod.__post_init__(self)
        self._require_above_zero("temperature", self.temperature)
        self._require_not_negative("beta", "gamma")

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted differences of both correlations from 1, [B] each."""
        terms = losses.dist_terms(
            *self._logits(student, teacher),
            beta=self.beta,
            gamma=self.gamma,
            temperature=self.temperature,
            axis_name=self._relation_axis,
        )
        return self._weighted(terms, student, teacher), {}
