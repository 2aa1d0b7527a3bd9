"""The pipeline that the images of a split come by."""

from kdjax.data.pipeline import batches, in_memory, streaming
from kdjax.data.split import LazySplit, Split


def train_batches(split: Split | LazySplit, *args, **kwargs) -> batches.TrainBatches:
    """Returns the batches of a training split; arguments as for `TrainBatches`."""
    return _pipeline(split).TrainBatches(split, *args, **kwargs)


def eval_batches(split: Split | LazySplit, *args, **kwargs) -> batches.EvalBatches:
    """Returns a split to evaluate on; arguments as for `EvalBatches`."""
    return _pipeline(split).EvalBatches(split, *args, **kwargs)


def _pipeline(split: Split | LazySplit):
    return in_memory if isinstance(split, Split) else streaming
