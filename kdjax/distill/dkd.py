"""DKD: Zhao et al., "Decoupled Knowledge Distillation" (CVPR 2022).

The divergence of KD falls into two parts: how sure the networks are of the true class,
and how they share out the rest among the others. KD weights the second by the teacher's
doubt; here both have weights of their own. Original: megvii-research/mdistiller,
`distillers/DKD.py`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Variables
from kdjax.distill.soft_targets import (
    divergence,
    log_probabilities,
    require_temperature,
)


def decouple(
    logits: jax.Array, label: jax.Array, *, temperature: float
) -> tuple[jax.Array, jax.Array]:
    """Splits probabilities into those of the true class and those of the others.

    Source: DKD, equations 1 to 3; original: the first half of `dkd_loss`.
    Differs from the original in: all in logarithms, where the original takes those of
    probabilities, which underflow from logit differences of 100 T on in float32; the
    true class is left out, where the original lowers its logit by 1000.

    Args:
      logits: [B, K].
      label: true classes, [B].
      temperature: by which logits are divided.

    Returns:
      Log probabilities of the true class and of all others together, [B, 2]; and
      of each of the others given that it is none but them, [B, K - 1].
    """
    log_p = log_probabilities(logits, temperature)
    label = label[:, None]
    # Places of the other classes: counts past the true one.
    place = jnp.arange(logits.shape[-1] - 1)[None]
    place = place + (place >= label)
    own = jnp.take_along_axis(log_p, label, axis=1)
    others = jax.nn.logsumexp(
        jnp.take_along_axis(log_p, place, axis=1), axis=1, keepdims=True
    )
    return (
        jnp.concatenate([own, others], axis=1),
        log_probabilities(jnp.take_along_axis(logits, place, axis=1), temperature),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dkd(Method):
    """alpha TCKD + beta NCKD: the terms `target_class` and `non_target_class`.

    Differs from the original in: `decouple` says what; two classes are refused, whose
    second part is always zero.

    Attributes:
      weight: factor on both.
      warm_up: 20 epochs for CIFAR-100, 1 for ImageNet.
      temperature: T; 4 for CIFAR-100, 1 for ImageNet.
      alpha: factor on the divergence of the true class from the rest.
      beta: factor on that among the other classes. For CIFAR-100 8, or 2 for
        resnet56-resnet20 and resnet110-resnet32, or 6 for pairs of wide ResNets and
        from vgg13; for ImageNet 0.5 or 2.
    """

    name = "dkd"
    needs_label = True
    taxonomy = Taxonomy(
        teacher_transform="softmax at a temperature, true class and others apart",
        student_transform="the same",
        position="logits",
        distance="KL(teacher || student) of each part",
        missing_information="all but the probabilities of the classes",
    )

    weight: float = 1.0
    warm_up: int = 20
    temperature: float = 4.0
    alpha: float = 1.0
    beta: float = 8.0

    def __post_init__(self):
        require_temperature(self, self.temperature)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes nothing; refuses two classes."""
        classes = student.logits.shape[-1]
        if classes < 3:
            raise ValueError(
                f"methods.{self.name} needs 3 classes or more, not {classes}: with one "
                "class beside the true one there is nothing to share out"
            )
        return {}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted divergences of both parts, [B] each."""
        (own, others), (teacher_own, teacher_others) = (
            decouple(x.logits, inputs.label, temperature=self.temperature)
            for x in (student, teacher)
        )
        square = self.temperature**2
        return {
            "target_class": self.alpha * square * divergence(teacher_own, own),
            "non_target_class": (
                self.beta * square * divergence(teacher_others, others)
            ),
        }, {}
