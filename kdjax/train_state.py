"""Everything that changes in training, and nothing else."""

from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class TrainState:
    """The state of a run between two steps.

    The teacher and what is read off it never change and are not here.

    Attributes:
      step: updates made so far, int32.
      params: `student`, and under `methods` what each method learns, float32.
      batch_stats: running statistics in the same layout.
      opt_state: the optimizer's state.
      metrics: sums since the last logged step (`metrics.Sums`), so that a resumed run
        logs the very numbers of an unbroken one.
    """

    step: jax.Array
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: Any
    metrics: Any
