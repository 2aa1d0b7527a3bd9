"""Stratified subsets of splits, the same in every run.

scikit-learn gives each class its share, rounded; that of a rare class may be none. One
of its images then takes the place of one of the most frequent class.
"""

from collections.abc import Sequence
from typing import TypeVar

import ml_collections
import numpy as np

from kdjax.data import messages
from kdjax.data.split import Description, LazySplit, Split

_AnySplit = TypeVar("_AnySplit", Split, LazySplit)


def stratified(
    split: _AnySplit, fraction: float, class_names: Sequence[str]
) -> _AnySplit:
    """Returns a fraction of a split, stratified, with at least one image of each class.

    Args:
      split: the full split.
      fraction: in (0, 1].
      class_names: the result has at least as many images.

    Raises:
      ValueError: if the fraction, or what it leaves out, is fewer images than classes.
    """
    if fraction == 1:
        return split
    label = split.label
    single = _single(label)
    size = _size("train_fraction", fraction, len(label), len(class_names))
    kept, left_out = _divide(label, single, size - single.sum())
    kept, _ = _fill(label, kept, left_out)
    return split.select(_sorted(kept, single))


def hold_out(
    split: _AnySplit,
    fraction: float,
    class_names: Sequence[str],
    field: str = "validation_fraction",
) -> tuple[_AnySplit, _AnySplit | None]:
    """Divides a training split into training images and held-out ones, stratified.

    Each part has at least one image of each class. A class with a single image is left
    to the training images, which is said in one line.

    Args:
      split: the full split.
      fraction: of images that are held out, in [0, 1).
      class_names: each part has at least as many images.
      field: of the configuration that holds the fraction, for messages.

    Returns:
      The training images, and the held-out images; None for a fraction of 0.

    Raises:
      ValueError: if a part has fewer images than there are classes.
    """
    if not fraction:
        return split, None
    label = split.label
    single = _single(label)
    size = _size(field, fraction, len(label), len(class_names))
    held_out, train = _divide(label, single, size)
    train, held_out = _fill(label, train, held_out)
    held_out, train = _fill(label, held_out, train)
    if single.any():
        names = [class_names[number] for number in np.unique(label[single])]
        messages.note(
            f"data.{field}={fraction} holds out no image of {len(names)} classes that"
            f" have only one: {messages.some(names)}"
        )
    return split.select(_sorted(train, single)), split.select(np.sort(held_out))


def num_train(config: ml_collections.ConfigDict, description: Description) -> int:
    """Returns the number of images to train on; reads none.

    Args:
      config: the `data` part of a configuration.
      description: of the data set.

    Raises:
      ValueError: as `stratified` and `hold_out`.
    """
    total, classes = description.num_train_images, description.num_classes
    if config.test_fraction:
        total -= _size("test_fraction", config.test_fraction, total, classes)
    if config.train_fraction != 1:
        total = _size("train_fraction", config.train_fraction, total, classes)
    if fraction := config.validation_fraction:
        total -= _size("validation_fraction", fraction, total, classes)
    return total


def _size(field: str, fraction: float, total: int, num_classes: int) -> int:
    """Returns the number of images that a fraction is."""
    size = round(fraction * total)
    if min(size, total - size) < num_classes:
        raise ValueError(
            f"data.{field}={fraction} divides {total} images into {size} and "
            f"{total - size}, fewer than the {num_classes} classes"
        )
    return size


def _single(label: np.ndarray) -> np.ndarray:
    """Tells which images are the only ones of their classes, bool [N]."""
    return (np.bincount(label) == 1)[label]


def _divide(
    label: np.ndarray, single: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divides the indices of all but single images into `size` and the rest."""
    from sklearn import model_selection  # Slow to import.

    several = np.flatnonzero(~single)
    return model_selection.train_test_split(
        several, train_size=int(size), stratify=label[several], random_state=0
    )


def _fill(
    label: np.ndarray, part: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gives a part an image of each class that only the other part has.

    Each takes the place of an image of the part's most frequent class.

    Args:
      label: of all images.
      part: indices of images; more than there are classes.
      other: indices of other images, at least two of each class that `part` lacks.

    Returns:
      Both parts, of the same sizes as before.
    """
    for missing in np.setdiff1d(label[other], label[part]):
        taken = other[label[other] == missing].min()
        given = part[label[part] == np.bincount(label[part]).argmax()].min()
        part, other = (
            np.append(part[part != given], taken),
            np.append(other[other != taken], given),
        )
    return part, other


def _sorted(indices: np.ndarray, single: np.ndarray) -> np.ndarray:
    """Returns the indices and those of the single images in order."""
    return np.sort(np.concatenate([indices, np.flatnonzero(single)]))
