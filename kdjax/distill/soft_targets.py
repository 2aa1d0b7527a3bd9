"""KD: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).

The student learns the teacher's probabilities of all classes, both softened by a
temperature. The authors released no code; the form here is that of
HobbitLong/RepDistiller and megvii-research/mdistiller.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.distill import transforms
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Variables

#: Factors on the divergence at temperature T, by the name used in `scale`.
SCALES = {
    "squared_temperature": lambda temperature: temperature**2,
    "none": lambda temperature: 1.0,
}


def log_probabilities(logits: jax.Array, temperature: float = 1.0) -> jax.Array:
    """Returns log softmax(logits / temperature), [B, K], float32 or wider."""
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    return jax.nn.log_softmax(logits.astype(wide) / temperature)


def divergence(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Computes KL(p || q) from logarithms, which stay finite where p or q vanish.

    Args:
      log_p: log probabilities, [B, K].
      log_q: others, [B, K].

    Returns:
      Divergences in nats, [B].
    """
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def standardized(logits: jax.Array) -> jax.Array:
    """Gives the logits of every example mean 0 and standard deviation 1.

    Source: Sun et al., "Logit Standardization in Knowledge Distillation" (CVPR 2024);
    original: sunshangquan/logit-standardization-KD, `normalize`.
    Differs from the original in: nothing is added to the deviation, 1e-7 there; equal
    logits become 0, with a gradient of zero.

    Args:
      logits: [B, K].

    Returns:
      [B, K], float32 or wider. The deviation is the unbiased one, of K - 1.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    centered = logits - jnp.mean(logits, axis=-1, keepdims=True)
    return (logits.shape[-1] - 1) ** 0.5 * transforms.unit(centered)


def require_temperature(method: Method, temperature: float) -> None:
    """Raises a ValueError if a method's temperature is not positive."""
    if not temperature > 0:
        raise ValueError(
            f"methods.{method.name}.temperature={temperature} is not above 0"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftTargets(Method):
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the term `divergence`.

    Published as 0.9 of this and 0.1 of the cross-entropy: `config.task_weight = 0.1`
    with the weight of 0.9 here. With standardized logits, 0.1 of the cross-entropy,
    T = 2 and a weight of 9. In the code of MHGD, 0.7 of the cross-entropy and 0.3 of
    this, with `scale="none"`.

    Differs from the original in: the paper averages the gradients of a cross-entropy
    with the soft targets, which are those of the divergence.

    Attributes:
      temperature: T, by which logits are divided.
      scale: "squared_temperature", so that gradients keep their size when T changes,
        or "none", as released with MHGD.
      standardize: logits have mean 0 and deviation 1 before they are divided.
    """

    name = "kd"
    taxonomy = Taxonomy(
        teacher_transform="softmax at a temperature",
        student_transform="the same",
        position="logits",
        distance="KL(teacher || student)",
        missing_information="all but the probabilities of the classes",
    )

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
        ours, theirs = (
            log_probabilities(
                standardized(x.logits) if self.standardize else x.logits,
                self.temperature,
            )
            for x in (student, teacher)
        )
        factor = SCALES[self.scale](self.temperature)
        return {"divergence": factor * divergence(theirs, ours)}, {}
