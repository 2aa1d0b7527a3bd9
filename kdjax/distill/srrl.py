"""SRRL: Yang et al., "Knowledge Distillation via Softmax Regression Representation
Learning" (ICLR 2021).

Lets the teacher's classifier read the student's features. Original:
jingyang2017/KD_SRRL.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.distill.bases.last_stage import LastStageMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Srrl(LastStageMethod):
    """Squared differences of features and of logits: the terms `features`, `logits`.

    The last map of the student passes a 1x1 convolution, batch norm and ReLU, and is
    averaged over its positions.

    Differs from the original in: what `losses.srrl` says; the table of other codes for
    CIFAR-100 convolves pooled features instead, and adds KD.

    Attributes:
      weight: factor on both terms.
      logit_weight: factor on `logits`.
    """

    name = "srrl"
    needs_teacher_logits = True
    needs_classifier = True
    taxonomy = Taxonomy(
        teacher_transform="none, and the teacher's classifier",
        student_transform="1x1 convolution, batch norm and ReLU, and the same",
        position="last map, averaged, and logits",
        distance="L2",
        missing_information="none",
    )

    weight: float = 1.0
    position: str = "post"
    logit_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        self._require_not_negative("logit_weight")

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the squared differences of features and logits, [B] each."""
        connected, stats = self._connected(variables, student, teacher)
        terms = losses.srrl_terms(
            jnp.mean(nn.relu(connected), axis=(1, 2)),
            teacher.features.pooled,
            teacher.logits,
            **teacher.classifier._asdict(),
        )
        return terms | {"logits": self.logit_weight * terms["logits"]}, stats

    def _width(self, teacher: Outputs) -> int:
        return teacher.features.pooled.shape[-1]
