"""The base of methods that relate the examples of a batch to one another."""

import dataclasses

import jax

from kdjax.distill.method import Method
from kdjax.losses import relations

#: Which examples are related, by the name used in `scope`: all of the batch, or those
#: of one device.
SCOPES = ("global", "per_device")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelationalMethod(Method):
    """A method whose terms depend on all examples of a batch at once.

    Attributes:
      scope: "global" gathers the examples of all devices, so that the loss does not
        depend on their number; "per_device" relates those of one device.
    """

    depends_on = "the entire batch"

    scope: str = "global"

    def __post_init__(self):
        self._require_choice("scope", SCOPES)

    @property
    def _relation_axis(self) -> str | None:
        """The mapped axis over which examples are related, the losses' `axis_name`."""
        return self.data_axis if self.scope == "global" else None

    def _gather(self, x: jax.Array) -> jax.Array:
        """Returns the values of all examples in scope, [B_all, ...] for [B, ...]."""
        return relations.gather(x, self._relation_axis)

    def _own_rows(self, size: int) -> jax.Array:
        """Returns the indices of the device's examples among all in scope, [size]."""
        return relations.global_index(size, self._relation_axis)
