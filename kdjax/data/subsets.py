"""Stratified subsets of splits, the same in every run."""

from typing import TypeVar

import numpy as np

from kdjax.data.split import LazySplit, Split

_AnySplit = TypeVar("_AnySplit", Split, LazySplit)


def stratified(split: _AnySplit, fraction: float, num_classes: int) -> _AnySplit:
    """Returns a fraction of a split, stratified and the same in every run.

    Args:
      split: the full split.
      fraction: in (0, 1].
      num_classes: the result has at least as many images.

    Raises:
      ValueError: if the fraction, or what it leaves out, is fewer images than classes.
    """
    if fraction == 1:
        return split
    kept, _ = _divide(split, "train_fraction", fraction, num_classes)
    return kept


def hold_out(
    split: _AnySplit, fraction: float, num_classes: int
) -> tuple[_AnySplit, _AnySplit | None]:
    """Divides a training split into training and validation images.

    Args:
      split: the full split.
      fraction: of validation images, in [0, 1).
      num_classes: each part has at least as many images.

    Returns:
      The training images, and the validation images; None for a fraction of 0.

    Raises:
      ValueError: if a part has fewer images than there are classes.
    """
    if not fraction:
        return split, None
    validation, train = _divide(split, "validation_fraction", fraction, num_classes)
    return train, validation


def _divide(
    split: _AnySplit, field: str, fraction: float, num_classes: int
) -> tuple[_AnySplit, _AnySplit]:
    """Divides a split into a fraction of it and the rest, both in its order."""
    from sklearn import model_selection  # Slow to import.

    total = len(split.label)
    size = round(fraction * total)
    if min(size, total - size) < num_classes:
        raise ValueError(
            f"data.{field}={fraction} divides {total} images into {size} and "
            f"{total - size}, fewer than the {num_classes} classes"
        )
    _, counts = np.unique(split.label, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"data.{field}={fraction}: a class of one training image cannot be divided"
        )
    parts = model_selection.train_test_split(
        np.arange(total), train_size=size, stratify=split.label, random_state=0
    )
    return tuple(split.select(np.sort(indices)) for indices in parts)
