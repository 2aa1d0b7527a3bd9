"""Data sets by name, and the part of one that a configuration asks for."""

from collections.abc import Callable
from typing import NamedTuple

import ml_collections
import numpy as np
from sklearn import model_selection

from kdjax.data import digits, tfds_source
from kdjax.data.split import Split


class DataSet(NamedTuple):
    """How to load a data set.

    Attributes:
      num_classes: number of labels.
      image_shape: [H, W, 3].
      load: takes the directory of prepared data sets, returns "train" and "test".
    """

    num_classes: int
    image_shape: tuple[int, int, int]
    load: Callable[[str], dict[str, Split]]


#: Every data set by the name it has in `data.name`.
DATA_SETS = {
    "digits": DataSet(10, (8, 8, 3), lambda data_dir: digits.load()),
    "cifar100": DataSet(
        100,
        (32, 32, 3),
        lambda data_dir: tfds_source.load("cifar100", data_dir or None),
    ),
}


def num_classes(name: str) -> int:
    """Returns the number of labels of a data set.

    Raises:
      ValueError: if there is no such data set.
    """
    if name not in DATA_SETS:
        raise ValueError(f"data.name={name!r} is none of {sorted(DATA_SETS)}")
    return DATA_SETS[name].num_classes


def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
    """Loads the splits "train" and "test" that `config.data` asks for.

    Raises:
      ValueError: if there is no such data set.
      FileNotFoundError: if it is not prepared; names the command that prepares it.
    """
    classes = num_classes(config.name)
    splits = DATA_SETS[config.name].load(config.data_dir)
    splits["train"] = stratified(splits["train"], config.train_fraction, classes)
    return splits


def stratified(split: Split, fraction: float, num_classes: int) -> Split:
    """Keeps a fraction of a split, the same in every run, each class in proportion.

    Args:
      split: the whole.
      fraction: in (0, 1].
      num_classes: at least one image of each must stay.

    Raises:
      ValueError: if the fraction leaves fewer images than classes.
    """
    if fraction == 1:
        return split
    kept = round(fraction * len(split.label))
    if kept < num_classes:
        raise ValueError(
            f"data.train_fraction={fraction} leaves {kept} of {len(split.label)} "
            f"images, fewer than the {num_classes} classes"
        )
    chosen, _ = model_selection.train_test_split(
        np.arange(len(split.label)),
        train_size=kept,
        stratify=split.label,
        random_state=0,
    )
    chosen.sort()
    return Split(split.image[chosen], split.label[chosen])
