"""Input pipelines: `in_memory` for what fits on a device, `streaming` for the rest."""

from typing import Any

from kdjax.data.pipeline import in_memory, streaming
from kdjax.data.pipeline.batches import EvalBatches, TrainBatches
from kdjax.data.split import LazySplit, Split


def train_batches(split: Split | LazySplit, *args: Any, **kwargs: Any) -> TrainBatches:
    """Returns the batches of a training split; arguments as for `TrainBatches`."""
    if isinstance(split, Split):
        return in_memory.InMemoryTrainBatches(split, *args, **kwargs)
    return streaming.StreamingTrainBatches(split, *args, **kwargs)


def eval_batches(split: Split | LazySplit, *args: Any, **kwargs: Any) -> EvalBatches:
    """Returns the batches of an evaluation; arguments as for `EvalBatches`."""
    if isinstance(split, Split):
        return in_memory.InMemoryEvalBatches(split, *args, **kwargs)
    return streaming.StreamingEvalBatches(split, *args, **kwargs)
