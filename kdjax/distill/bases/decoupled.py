"""The base of methods that compare the target class and the other classes apart."""

import dataclasses
from collections.abc import Mapping

from kdjax.distill.bases.logit import LogitMethod
from kdjax.distill.gradients.momenta import TASK


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoupledMethod(LogitMethod):
    """A method of logits with the terms `target_class` and `non_target_class`.

    By the rule "by_term" the gradients of the task and of both terms have momenta of
    their own, as in DeepKD (`gradients.momenta`).

    Attributes:
      task_delta: added to `optimizer.momentum` for the gradient of the task, by the
        rule "by_term".
      target_delta: the same of `target_class`.
      non_target_delta: the same of `non_target_class`.
    """

    needs_label = True

    task_delta: float = 0.075
    target_delta: float = -0.075
    non_target_delta: float = 0.075

    def __post_init__(self):
        super().__post_init__()
        for field in ("task_delta", "target_delta", "non_target_delta"):
            if not -1 < getattr(self, field) < 1:
                raise ValueError(
                    f"methods.{self.name}.{field}={getattr(self, field)} is not "
                    "between -1 and 1"
                )

    @property
    def momentum_deltas(self) -> Mapping[str, float]:
        """What "by_term" adds to the momentum of each term and of the task."""
        return {
            TASK: self.task_delta,
            "target_class": self.target_delta,
            "non_target_class": self.non_target_delta,
        }
