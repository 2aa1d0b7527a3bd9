"""DeiT: Touvron et al., "Training Data-efficient Image Transformers & Distillation
through Attention" (ICML 2021).

The student has a second token and a second classifier, which learn from the teacher
alone, while the first ones learn from the labels. Original: facebookresearch/deit,
`losses.py` and `models.py`.
"""

import dataclasses

import jax

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables

#: What the distillation token learns, by the name used in `targets`.
TARGETS = ("hard", "soft")

#: Factors on the divergence of soft targets, by the name used in `scale`.
SCALES = ("released", "squared_temperature")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deit(LogitMethod):
    """What the distillation token learns from the teacher: the term `token`.

    With hard targets the cross-entropy of the class that the teacher decides for, with
    soft ones the divergence of `kd`. The cross-entropy of the labels is that of the
    class token, and the network's prediction the mean of both classifiers' logits, also
    for methods beside this one.

    Published as half of this and half of the cross-entropy for hard targets
    (`config.task_weight = 0.5` with the weight of 0.5 here), and as 0.1 of this, at a
    temperature of 3, and 0.9 of the cross-entropy for soft ones.

    Differs from the original in: what `losses.hard_distillation` and `losses.kd` say;
    logits may be standardized and examples weighed.

    Attributes:
      targets: "hard" or "soft".
      temperature: T of soft targets.
      scale: of soft targets: "released", T^2 / K for K classes, since the code averages
        over the classes too; or "squared_temperature", T^2 as in the paper.
    """

    name = "deit"
    needs_distillation_token = True
    taxonomy = Taxonomy(
        teacher_transform="most likely class, or softmax at a temperature",
        student_transform="softmax of a classifier that reads a token of its own",
        position="logits",
        distance="cross-entropy, or KL(teacher || student)",
        missing_information="all but the decision, or but the class probabilities",
    )

    weight: float = 0.5
    targets: str = "hard"
    temperature: float = 1.0
    scale: str = "released"

    def __post_init__(self):
        super().__post_init__()
        self._require_choice("targets", TARGETS)
        self._require_choice("scale", SCALES)
        self._require_above_zero("temperature", self.temperature)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns what the second classifier is from the teacher, [B]."""
        _, logits = student.features.heads
        token = student._replace(logits=logits)
        compared = self._logits(token, teacher)
        if self.targets == "hard":
            found = losses.hard_distillation(*compared)
        else:
            found = losses.kd(*compared, temperature=self.temperature)
            if self.scale == "released":
                found = found / logits.shape[-1]
        return self._weighted({"token": found}, token, teacher), {}
