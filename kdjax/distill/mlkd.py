"""MLKD: Jin, Wang and Lin, "Multi-Level Logit Distillation" (CVPR 2023).

Probabilities are compared at several temperatures on three levels: of an example, of
pairs of examples, and of pairs of classes. Original: Jin-Ying/
Multi-Level-Logit-Distillation, `distillers/KD_ours.py`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.relational import RelationalMethod
from kdjax.distill.soft_targets import (
    divergence,
    log_probabilities,
    require_temperature,
)


def products(x: jax.Array, y: jax.Array) -> jax.Array:
    """Multiplies all rows by all rows, [N, P] for [N, M] and [P, M]."""
    # Small differences of products count: not in the short types of an accelerator.
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mlkd(RelationalMethod):
    """Divergence, batch and class correlation, added up over temperatures.

    With S the probabilities of the student for the batch, [B, K], and T the teacher's,
    the terms are `divergence`, that of KD; `batch_correlation`, ||S S' - T T'||^2 / B;
    and `class_correlation`, ||S' S - T' T||^2 / K, the same for every example.

    Batch-relational: the last two relate the examples in `scope`.

    Differs from the original in: one view of an image, where the original adds a second
    one, strongly augmented, with a cross-entropy of its own; no confidence masks, which
    multiply sums there and so choose no examples, but are a factor of about a half.
    Without the second view its figures cannot be expected.

    Attributes:
      weight: factor on all three.
      temperatures: at which probabilities are compared.
    """

    name = "mlkd"
    taxonomy = Taxonomy(
        teacher_transform="softmax at temperatures, and its products over the batch",
        student_transform="the same",
        position="logits",
        distance="KL(teacher || student) and L2",
        missing_information="all but the probabilities of the classes",
    )

    weight: float = 0.9
    temperatures: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0)

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
        """Returns what differs on each level, summed over temperatures, [B] each."""
        levels = [
            self._levels(student.logits, teacher.logits, temperature)
            for temperature in self.temperatures
        ]
        return jax.tree.map(lambda *terms: sum(terms), *levels), {}

    def _levels(
        self, student: jax.Array, teacher: jax.Array, temperature: float
    ) -> dict[str, jax.Array]:
        ours, theirs = (log_probabilities(x, temperature) for x in (student, teacher))
        own = [jnp.exp(x) for x in (ours, theirs)]
        every = [self._gather(x) for x in own]
        # The device's own examples with all, and the classes over all.
        pairs = [products(x, y) for x, y in zip(own, every, strict=True)]
        classes = [products(x.T, x.T) for x in every]
        of_pairs, of_classes = (
            jnp.sum(jnp.square(ours - theirs), axis=-1)
            for ours, theirs in (pairs, classes)
        )
        return {
            "divergence": temperature**2 * divergence(theirs, ours),
            "batch_correlation": of_pairs,
            "class_correlation": jnp.broadcast_to(jnp.mean(of_classes), of_pairs.shape),
        }
