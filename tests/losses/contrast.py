"""Inputs of the reference values of CRD."""

import numpy as np

from kdjax.losses.numerics import l2_normalize
from tests.losses import batches

#: The reference keeps its temperature in float32.
TEMPERATURE = float(np.float32(0.07))

_BOUND = 1 / np.sqrt(32 / 3)

#: Memory banks, [50, 32], by side.
MEMORIES = {
    side: np.random.RandomState(seed).uniform(-_BOUND, _BOUND, (50, 32))
    for side, seed in (("student", 74), ("teacher", 75))
}

#: Eight images and 16 negatives of each.
INDEX = np.concatenate(
    [np.arange(8)[:, None], np.random.RandomState(76).randint(8, 50, (8, 16))], axis=1
)


def embedded(student, teacher):
    """Returns embeddings of length 1 by side, of pooled features in float64."""
    return {
        side: l2_normalize(
            x @ batches.drawn(seed, 32, x.shape[1]).T
            + batches.drawn(seed + 1, 32)[None]
        )
        for side, x, seed in (("student", student, 70), ("teacher", teacher, 72))
    }
