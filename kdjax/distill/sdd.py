"""SDD: Wei, Luo and Luo, "Scaled Decoupled Distillation" (CVPR 2024).

Compares logits of regions of the last map, and the more where a region and the whole
map disagree. Original: shicaiwei123/SDD-CVPR2024.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.method import Inputs, Outputs, Taxonomy, Variables
from kdjax.distill.stages import require_classified_map

#: Losses of a region, by the name used in `base`.
BASES = ("dkd", "kd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sdd(LogitMethod):
    """A loss of logits averaged over regions of the last map: the term `regions`.

    Differs from the original in: what `losses.region_logits` says; the code of its
    SD-NKD is not followed, which keeps the true class among the others.

    Attributes:
      weight: factor on the mean; 0.9 for KD, beside 0.1 of the cross-entropy.
      warm_up: 20 epochs for DKD, none for KD.
      base: "dkd" or "kd", the loss of a region.
      temperature: T of that loss.
      alpha: of DKD.
      beta: of DKD; by pair as for DKD.
      levels: regions along each side; (1, 2) for pairs of one family.
      complementary: weight of regions that the teacher classifies right where the whole
        map is wrong, or the reverse.
    """

    name = "sdd"
    needs_label = True
    least_classes = 2
    needs_classifier = True
    taxonomy = Taxonomy(
        teacher_transform="classifier on regions, then as DKD or KD",
        student_transform="classifier on regions, then as DKD or KD",
        position="last map and classifier",
        distance="KL(teacher || student) of every region",
        missing_information="what the classifier does not read",
    )

    weight: float = 1.0
    warm_up: int = 20
    base: str = "dkd"
    temperature: float = 4.0
    alpha: float = 1.0
    beta: float = 8.0
    levels: tuple[int, ...] = (1, 2, 4)
    complementary: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        self._require_choice("base", BASES)
        self._require_above_zero("temperature", self.temperature)
        self._require_not_negative("alpha", "beta", "complementary")
        if not self.levels or self.levels[0] != 1 or not set(self.levels) <= {1, 2, 4}:
            raise ValueError(
                f"methods.{self.name}.levels={self.levels} does not start with 1, or "
                "has other than 1, 2 and 4"
            )

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Learns nothing; rejects classifiers that do not read the last map."""
        require_classified_map(self.name, student, teacher)
        return super().init(key, student, teacher)

    def loss(
        self,
        variables: Variables,
        precomputed: Variables,
        student: Outputs,
        teacher: Outputs,
        inputs: Inputs,
    ) -> tuple[dict[str, jax.Array], Variables]:
        """Returns the weighted mean over the regions, [B]."""
        regions = [
            losses.region_logits(
                outputs.features.last, *outputs.classifier, levels=self.levels
            )
            for outputs in (student, teacher)
        ]
        weights = losses.complementary_weight(
            regions[1], inputs.label, weight=self.complementary
        )
        flat = [x.reshape(-1, x.shape[-1]) for x in regions]
        if self.standardize:
            flat = map(losses.standardize_logits, flat)
        label = jnp.repeat(inputs.label, weights.shape[1])
        found = self._base(label)(*flat).reshape(weights.shape)
        terms = {"regions": jnp.mean(weights * found, axis=1)}
        return self._weighted(terms, student, teacher), {}

    def _base(self, label: jax.Array):
        """Returns the loss of a region, of the logits of both networks."""
        if self.base == "kd":
            return functools.partial(losses.kd, temperature=self.temperature)
        return functools.partial(
            losses.dkd,
            label=label,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
        )
