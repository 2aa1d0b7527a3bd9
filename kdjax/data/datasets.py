"""Data sets by name, and the part of one that a configuration asks for.

`data.name` is one of

- `digits`, which scikit-learn ships;
- `cifar10`, `cifar100` and `tiny_imagenet`, prepared by `kdjax.data.prepare`;
- `tfds:NAME`, any set of TFDS that is prepared in ArrayRecord format, with images of
  one size; where it has no split `test`, its split `validation` is the test;
- `folder`, a user's own images, laid out as `kdjax.data.folder` says.
"""

from collections.abc import Mapping
from typing import NamedTuple

import ml_collections
import numpy as np
from sklearn import model_selection

from kdjax.data import digits, folder, tfds_source
from kdjax.data.split import Description, Split

#: Sets that are described without being read.
_KNOWN = {
    "digits": Description(10, (8, 8, 3)),
    "cifar10": Description(10, (32, 32, 3)),
    "cifar100": Description(100, (32, 32, 3)),
}
_PREPARED = ("cifar10", "cifar100", "tiny_imagenet")
_TFDS = "tfds:"

#: What `data.name` may be, in words.
NAMES = ("digits", *_PREPARED, "tfds:NAME", "folder")

#: What may be done with images that cannot be decoded.
BAD_IMAGES = ("refuse", "skip")


class Data(NamedTuple):
    """What a configuration trains and is measured on.

    Attributes:
      train: what is left of the training split.
      test: the whole test split.
      validation: the part set aside from the training split, if there is one.
      skipped: files left out of "train" and "test" because they could not be decoded.
    """

    train: Split
    test: Split
    validation: Split | None
    skipped: Mapping[str, int]


def describe(config: ml_collections.ConfigDict) -> Description:
    """Tells how many classes and what images the data set has, without reading it.

    Args:
      config: the `data` part of a configuration.

    Raises:
      ValueError: in one line, if there is no such data set or it cannot be used.
      FileNotFoundError: if it is not prepared; names the command that prepares it.
    """
    if config.name == "folder":
        return folder.describe(config.data_dir, config.image_size)
    tfds_name = _tfds_name(config)
    if config.image_size:
        raise ValueError(
            f"data.image_size={config.image_size} but data.name={config.name!r}: only"
            " the images of data.name='folder' are resized"
        )
    if config.name in _KNOWN:
        return _KNOWN[config.name]
    return tfds_source.describe(tfds_name, config.data_dir or None)


def load(config: ml_collections.ConfigDict) -> Data:
    """Loads what `config.data` asks for; arguments and errors as for `describe`.

    The validation part is set aside after `train_fraction` has been taken, each class
    in proportion and the same in every run.
    """
    num_classes = describe(config).num_classes
    skipped = {"train": 0, "test": 0}
    if config.name == "digits":
        splits = digits.load()
    elif config.name == "folder":
        splits, skipped = folder.load(
            config.data_dir, config.image_size, config.bad_images
        )
    else:
        splits = tfds_source.load(_tfds_name(config), config.data_dir or None)
    train = stratified(splits["train"], config.train_fraction, num_classes)
    train, validation = set_aside(train, config.validation_fraction, num_classes)
    return Data(train, splits["test"], validation, skipped)


def _tfds_name(config: ml_collections.ConfigDict) -> str:
    """Returns what TFDS calls a set; nothing for those it does not know.

    Raises:
      ValueError: if there is no such data set.
    """
    if config.name == "digits":
        return ""
    name = config.name.removeprefix(_TFDS)
    if config.name not in _PREPARED and (name == config.name or not name):
        raise ValueError(f"data.name={config.name!r} is none of {', '.join(NAMES)}")
    return name


def stratified(split: Split, fraction: float, num_classes: int) -> Split:
    """Keeps a fraction of a split, the same in every run, each class in proportion.

    Args:
      split: the whole.
      fraction: in (0, 1].
      num_classes: at least one image of each must stay.

    Raises:
      ValueError: if the fraction, or what it leaves out, is fewer images than classes.
    """
    if fraction == 1:
        return split
    kept, _ = _divide(split, "train_fraction", fraction, num_classes)
    return kept


def set_aside(
    split: Split, fraction: float, num_classes: int
) -> tuple[Split, Split | None]:
    """Divides a training split into what is trained on and a part to validate on.

    Args:
      split: the whole.
      fraction: of the part, in [0, 1).
      num_classes: each part must have as many images.

    Returns:
      What is left, and the part; None for a fraction of 0.

    Raises:
      ValueError: if a part is left with fewer images than classes.
    """
    if not fraction:
        return split, None
    part, left = _divide(split, "validation_fraction", fraction, num_classes)
    return left, part


def _divide(
    split: Split, field: str, fraction: float, num_classes: int
) -> tuple[Split, Split]:
    """Divides a split into a fraction of it and the others, both in its order."""
    total = len(split.label)
    chosen = round(fraction * total)
    if min(chosen, total - chosen) < num_classes:
        raise ValueError(
            f"data.{field}={fraction} divides {total} images into {chosen} and "
            f"{total - chosen}, fewer than the {num_classes} classes"
        )
    _, counts = np.unique(split.label, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"data.{field}={fraction}: a class of one training image cannot be divided"
        )
    indices = model_selection.train_test_split(
        np.arange(total), train_size=chosen, stratify=split.label, random_state=0
    )
    return tuple(
        Split(split.image[places], split.label[places])
        for places in map(np.sort, indices)
    )
