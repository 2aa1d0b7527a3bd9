"""The road that the images of a split come by."""

from kdjax.data import batches, device_road, host_road
from kdjax.data.split import Split, StoredSplit


def train_batches(split: Split | StoredSplit, *args, **kwargs) -> batches.TrainBatches:
    """Returns the batches of a training split; arguments as for `TrainBatches`."""
    return _road(split).TrainBatches(split, *args, **kwargs)


def whole_split(split: Split | StoredSplit, *args, **kwargs) -> batches.WholeSplit:
    """Returns a split to evaluate on; arguments as for `WholeSplit`."""
    return _road(split).WholeSplit(split, *args, **kwargs)


def _road(split: Split | StoredSplit):
    return device_road if isinstance(split, Split) else host_road
