"""Sums of what a step measures, kept on the device until they are logged."""

from collections.abc import Iterable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

_NEVER = np.iinfo(np.int32).max


@flax.struct.dataclass
class Sums:
    """Sums over examples, their count, and when a value first was not finite.

    Attributes:
      total: sum by name, float32.
      count: examples summed.
      nonfinite_step: by name, the first step whose value was infinite or NaN.
    """

    total: dict[str, jax.Array]
    count: jax.Array
    nonfinite_step: dict[str, jax.Array]

    @classmethod
    def zeros(cls, names: Iterable[str]) -> "Sums":
        """Makes empty sums of the named values."""
        names = sorted(names)
        return cls(
            total={name: jnp.zeros((), jnp.float32) for name in names},
            count=jnp.zeros((), jnp.float32),
            nonfinite_step={name: jnp.full((), _NEVER, jnp.int32) for name in names},
        )

    def reset_if(self, condition: jax.Array) -> "Sums":
        """Empties the sums where the condition holds; never forgets a bad step."""
        return self.replace(
            total={k: jnp.where(condition, 0, v) for k, v in self.total.items()},
            count=jnp.where(condition, 0, self.count),
        )

    def add(
        self, totals: Mapping[str, jax.Array], count: int, step: jax.Array
    ) -> "Sums":
        """Adds one step's sums over `count` examples."""
        return Sums(
            total={k: v + totals[k].astype(v.dtype) for k, v in self.total.items()},
            count=self.count + count,
            nonfinite_step={
                k: jnp.minimum(v, jnp.where(jnp.isfinite(totals[k]), _NEVER, step))
                for k, v in self.nonfinite_step.items()
            },
        )


def means(sums: Sums) -> dict[str, float]:
    """Fetches the sums and divides them by their count.

    Raises:
      FloatingPointError: if a value was infinite or NaN at some step; names the first
        and the step.
    """
    sums = jax.device_get(sums)
    bad = {k: int(v) for k, v in sums.nonfinite_step.items() if v != _NEVER}
    if bad:
        first = min(bad.values())
        names = ", ".join(name for name, step in bad.items() if step == first)
        raise FloatingPointError(f"{names} not finite at step {first}")
    count = float(sums.count)
    return {name: float(total) / count for name, total in sums.total.items()}


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Turns numpy and JAX scalars of a record into Python numbers."""
    return {
        key: value.item() if hasattr(value, "item") else value
        for key, value in record.items()
    }
