"""The base of methods that compare logits."""

import dataclasses
from typing import ClassVar

import jax

from kdjax import losses
from kdjax.distill.method import Method, Outputs, Variables

#: What weighs an example, by the name used in `example_weight`.
EXAMPLE_WEIGHTS = ("none", "entropy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitMethod(Method):
    """A method whose terms are made of both networks' logits.

    Attributes:
      relational_terms: names of the terms that relate examples, which no weight of an
        example multiplies.
      least_classes: with which the terms have a meaning.
      standardize: logits are standardized before they are divided by a temperature, as
        in Sun et al., "Logit Standardization in Knowledge Distillation" (CVPR 2024).
      example_weight: "none", or "entropy", by which EA-KD weighs examples
        (`losses.entropy_weight`): Su et al., "EA-KD: Entropy-based Adaptive Knowledge
        Distillation" (ICCV 2025). It is made of the logits as they are, standardized
        or not.
      entropy_temperature: of the entropies.
    """

    needs_teacher_logits = True
    relational_terms: ClassVar[tuple[str, ...]] = ()
    least_classes: ClassVar[int] = 1

    standardize: bool = False
    example_weight: str = "none"
    entropy_temperature: float = 3.0

    def __post_init__(self):
        self._require_choice("example_weight", EXAMPLE_WEIGHTS)
        self._require_above_zero("entropy_temperature", self.entropy_temperature)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Learns nothing, unless a method says otherwise; rejects too few classes."""
        classes = student.logits.shape[-1]
        if classes < self.least_classes:
            raise ValueError(
                f"methods.{self.name} needs {self.least_classes} classes or more, not "
                f"{classes}"
            )
        return {}

    def _require_above_zero(self, field: str, value: float) -> None:
        """Raises a ValueError if a number, such as a temperature, is not positive."""
        if not value > 0:
            raise ValueError(f"methods.{self.name}.{field}={value} is not above 0")

    def _refuse_example_weight(self) -> None:
        """Raises a ValueError if examples are weighed, whose two views would differ."""
        if self.example_weight != "none":
            raise ValueError(
                f"methods.{self.name}.example_weight={self.example_weight!r} weighs "
                "one view of an image, but the method compares two"
            )

    def _logits(
        self, student: Outputs, teacher: Outputs
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the logits of both networks, standardized if asked for, [B, K]."""
        logits = student.logits, teacher.logits
        if self.standardize:
            return tuple(map(losses.standardize_logits, logits))
        return logits

    def _weighted(
        self, terms: dict[str, jax.Array], student: Outputs, teacher: Outputs
    ) -> dict[str, jax.Array]:
        """Multiplies the terms of single examples, [B] each, by their weights."""
        if self.example_weight == "none":
            return terms
        weight = losses.entropy_weight(
            student.logits, teacher.logits, temperature=self.entropy_temperature
        )
        return {
            name: term if name in self.relational_terms else weight * term
            for name, term in terms.items()
        }
