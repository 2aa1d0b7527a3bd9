"""Means of a training step's metrics, accumulated on the host."""

import math
from collections.abc import Mapping
from typing import Any


class RunningMeans:
    """Means over examples of what each step measured, in float64.

    The sums are JSON (`state`), so that a checkpoint can hold them and a resumed run
    logs the very numbers of an uninterrupted one.
    """

    def __init__(self, state: Mapping[str, Any] | None = None):
        """Starts empty, or from the `state` of earlier means."""
        self._totals: dict[str, float] = dict(state["totals"]) if state else {}
        self._count: int = state["count"] if state else 0

    @property
    def state(self) -> dict[str, Any]:
        """Returns the sums and the number of examples."""
        return {"totals": dict(self._totals), "count": self._count}

    @property
    def count(self) -> int:
        """Examples since the last reset."""
        return self._count

    def add(self, values: Mapping[str, float], *, count: int, step: int) -> None:
        """Adds the means of one step over `count` examples.

        Args:
          values: mean by name.
          count: examples of the step's batch, over all devices.
          step: updates made, this one included; named in the error.

        Raises:
          FloatingPointError: if a value is infinite or NaN; names all such values.
        """
        values = {name: float(value) for name, value in values.items()}
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise FloatingPointError(
                f"{', '.join(sorted(bad))} not finite at step {step}"
            )
        for name, value in values.items():
            self._totals[name] = self._totals.get(name, 0.0) + value * count
        self._count += count

    def means(self) -> dict[str, float]:
        """Returns the mean of each value since the last reset."""
        return {name: total / self._count for name, total in self._totals.items()}

    def reset(self) -> None:
        """Forgets what was added."""
        self._totals, self._count = {}, 0
