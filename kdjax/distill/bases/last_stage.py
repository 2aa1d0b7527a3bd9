"""The base of methods that embed the student's last stage in the teacher's width."""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.distill.method import Method, Outputs, Variables
from kdjax.distill.modules.connectors import Connectors
from kdjax.distill.stages import POSITIONS


@dataclasses.dataclass(frozen=True, kw_only=True)
class LastStageMethod(Method):
    """A method that compares the last stage, the student's behind a 1x1 convolution.

    A batch norm follows the convolution. Both are there even where the widths agree.

    Attributes:
      position: where features are taken, of `stages.POSITIONS`.
    """

    position: str = "block"

    def __post_init__(self):
        self._require_choice("position", POSITIONS)

    def init(self, key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
        """Makes the convolution and the batch norm."""
        last = self._last(student)
        return self._connector(teacher).init(key, [jnp.zeros(last.shape, last.dtype)])

    def _last(self, outputs: Outputs) -> jax.Array:
        """Returns the map of the last stage, [B, H, W, C]."""
        return getattr(outputs.features, self.position)[-1]

    def _connected(
        self, variables: Variables, student: Outputs, teacher: Outputs
    ) -> tuple[jax.Array, Variables]:
        """Returns the student's map in the teacher's width, and new statistics."""
        (connected,), updates = self._connector(teacher).apply(
            variables, [self._last(student)], mutable=["batch_stats"]
        )
        return connected, updates["batch_stats"]

    def _connector(self, teacher: Outputs) -> Connectors:
        width = self._width(teacher)
        return Connectors((width,), dtype=self.dtype, axis_name=self.batch_norm_axis)

    def _width(self, teacher: Outputs) -> int:
        """Returns the channels that the student's map gets."""
        return self._last(teacher).shape[-1]
