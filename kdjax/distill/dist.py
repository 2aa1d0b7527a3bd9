"""DIST: Huang et al., "Knowledge Distillation from A Stronger Teacher" (NeurIPS 2022).

Probabilities need not agree, they need only correlate: over the classes of an example,
and over the examples of a batch for every class. Original: hunto/DIST_KD,
`losses/dist_kd.py`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.relational import RelationalMethod
from kdjax.distill.soft_targets import log_probabilities, require_temperature

#: Beside the product of two lengths, as in the original: a class that has next to no
#: probability throughout the batch correlates with nothing.
_EPSILON = 1e-8

#: So many roundings apart, values count as equal.
_ROUNDINGS = 8


def correlation(x: jax.Array, y: jax.Array) -> jax.Array:
    """Computes Pearson's coefficient over the last axis, [N] for [N, M] twice.

    Source: DIST, equation 6; original: `pearson_correlation`.
    Differs from the original in: where all values of a row are equal but for rounding
    the result is 0 with a gradient of zero, where the original's gradient is not finite
    or as large as 1e8.
    """
    x, y = _centered(x), _centered(y)
    return jnp.sum(x * y, axis=-1) / (_length(x) * _length(y) + _EPSILON)


def _centered(x: jax.Array) -> jax.Array:
    """Subtracts the mean over the last axis; equal values become 0."""
    centered = x - jnp.mean(x, axis=-1, keepdims=True)
    rounding = _ROUNDINGS * jnp.finfo(x.dtype).eps
    largest, spread = (
        jnp.max(jnp.abs(a), axis=-1, keepdims=True) for a in (x, centered)
    )
    return jnp.where(spread > rounding * largest, centered, 0)


def _length(x: jax.Array) -> jax.Array:
    """Returns the length of vectors over the last axis; its gradient at 0 is zero."""
    square = jnp.sum(jnp.square(x), axis=-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dist(RelationalMethod):
    """beta (1 - correlation over classes) + gamma (1 - that over the batch), times T^2.

    The terms are `inter_class`, over the classes of every example, and `intra_class`,
    the mean over classes of that over the batch, the same for every example.

    Batch-relational: the second relates the examples in `scope`.

    Differs from the original in: `correlation` says what; on several devices the
    examples of all are related, where the original relates those of one.

    Attributes:
      temperature: T, called tau in the paper.
      beta: factor on the first.
      gamma: factor on the second.
    """

    name = "dist"
    taxonomy = Taxonomy(
        teacher_transform="softmax at a temperature",
        student_transform="the same",
        position="logits",
        distance="1 - Pearson correlation, over classes and over the batch",
        missing_information="mean and spread of the probabilities",
    )

    weight: float = 1.0
    temperature: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        require_temperature(self, self.temperature)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns what both correlations lack of 1, weighted, [B] each."""
        ours, theirs = (
            jnp.exp(log_probabilities(x.logits, self.temperature))
            for x in (student, teacher)
        )
        inter_class = 1 - correlation(ours, theirs)
        of_classes = correlation(self._gather(ours).T, self._gather(theirs).T)
        # All devices return the same, and their mean is what counts.
        intra_class = jnp.broadcast_to(1 - jnp.mean(of_classes), inter_class.shape)
        square = self.temperature**2
        return {
            "inter_class": self.beta * square * inter_class,
            "intra_class": self.gamma * square * intra_class,
        }, {}
