"""The logits of a trained network on all images of a split."""

import ml_collections
import numpy as np

from kdjax.data.split import LazySplit
from kdjax.evaluate import outputs
from kdjax.runs.trained import TrainedModel


def compute(
    run: TrainedModel,
    split: LazySplit,
    config: ml_collections.ConfigDict,
    *,
    batch_size: int,
    name: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Computes logits [N, K] and classes [N]; arguments and errors as of `outputs`."""
    return outputs.compute(
        run,
        split,
        config,
        batch_size=batch_size,
        name=name,
        read=lambda x: x.logits,
        what="logits",
    )
