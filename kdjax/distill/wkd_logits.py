"""WKD-L: Lv, Yang and Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for
Knowledge Distillation" (NeurIPS 2024).

Moves probability between classes, at a cost that says how unlike two classes are to the
teacher. Original: JiamingLv/WKD.
"""

import dataclasses

import jax
import numpy as np

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.decay import cosine_decay
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Teacher, Variables

#: What of the teacher's answers tells the cost between classes.
COSTS = {
    "pooled": lambda outputs: outputs.features.pooled,
    "logits": lambda outputs: outputs.logits,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WkdLogits(LogitMethod):
    """The terms `target_class` and `transport`, the second times gamma.

    Costs between classes are made before the training, of the teacher's answers to all
    training images.

    Differs from the original in: what `losses.wkd_logits` and `losses.class_costs` say;
    on CIFAR-100 the original pairs the positions of last maps for the costs, not pooled
    features; gamma falls at every step, not epoch.

    Attributes:
      weight: factor on both terms.
      temperature: T of the other classes; 8 for resnet32x4-resnet8x4, 6 for
        wrn_40_2-shufflenet_v1.
      gamma: factor on the transport; 600 and 200 for these pairs.
      regularization: of the entropy in the transport.
      iterations: Sinkhorn's.
      cost: "pooled", the teacher's pooled features tell the cost between classes, or
        "logits", as in the original's settings for ImageNet.
      sharpness: of the cost.
      decay_from: fraction of the training from which gamma falls to 0 by a cosine; 150
        of 240 epochs for CIFAR-100, 0 for ImageNet, 1 for never.
    """

    name = "wkd_logits"
    needs_label = True
    least_classes = 2
    taxonomy = Taxonomy(
        teacher_transform="softmax at a temperature, target class and others apart",
        student_transform="softmax at a temperature, target class and others apart",
        position="logits",
        distance="cross-entropy, and entropic Wasserstein distance of the others",
        missing_information="all but the class probabilities",
    )

    weight: float = 1.0
    temperature: float = 8.0
    gamma: float = 600.0
    regularization: float = 0.05
    iterations: int = 10
    cost: str = "pooled"
    sharpness: float = 1.0
    decay_from: float = 0.625

    def __post_init__(self):
        super().__post_init__()
        for field in ("temperature", "regularization"):
            self._require_above_zero(field, getattr(self, field))
        self._require_not_negative("gamma", "sharpness", "decay_from")
        self._require_positive("iterations")
        self._require_choice("cost", COSTS)

    def precompute(self, teacher: Teacher) -> Variables:
        """Returns the costs between classes, [K, K]."""
        answers = [np.asarray(COSTS[self.cost](x)) for x in teacher.outputs()]
        features = np.concatenate(answers)
        costs = losses.class_costs(
            features,
            teacher.label()[: len(features)],
            num_classes=self.num_classes,
            sharpness=self.sharpness,
        )
        return {"cost": costs.astype(np.float32)}

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the cross-entropy and the cost of the transport, [B] each."""
        terms = losses.wkd_logits_terms(
            *self._logits(student, teacher),
            inputs.label,
            cost=precomputed["cost"],
            gamma=self.gamma * cosine_decay(inputs.progress, self.decay_from),
            temperature=self.temperature,
            regularization=self.regularization,
            iterations=self.iterations,
        )
        return self._weighted(terms, student, teacher), {}
