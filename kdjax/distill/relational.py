"""What methods share that relate the examples of a batch with one another."""

import dataclasses

import jax
import jax.numpy as jnp

from kdjax.distill.method import Method

#: Which examples are related, by the name used in `scope`: all of the batch, or those
#: that one device holds.
SCOPES = ("global", "per_device")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelationalMethod(Method):
    """A method whose terms depend on all examples of a batch at once.

    Attributes:
      scope: "global" gathers the examples of all devices, so that the loss does not
        depend on their number; "per_device" relates those of one device.
    """

    depends_on = "the whole batch"

    scope: str = "global"

    def __post_init__(self):
        self._require_choice("scope", SCOPES)

    @property
    def _gathers(self) -> bool:
        return self.scope == "global" and self.data_axis is not None

    def _gather(self, x: jax.Array) -> jax.Array:
        """Returns what all examples in scope have, [B_all, ...] for [B, ...]."""
        if not self._gathers:
            return x
        return jax.lax.all_gather(x, self.data_axis, tiled=True)

    def _own_rows(self, share: int) -> jax.Array:
        """Returns the places of the device's own examples among all in scope, [B]."""
        rows = jnp.arange(share)
        if self._gathers:
            rows += share * jax.lax.axis_index(self.data_axis)
        return rows
