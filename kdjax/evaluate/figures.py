"""Figures of a classifier's logits, in NumPy."""

from typing import NamedTuple

import numpy as np
from scipy import special

#: Bins of the expected calibration error in Guo et al. 2017.
BINS = 15


class Confusion(NamedTuple):
    """Images of one class that are classified as another one.

    Attributes:
      true: their class.
      predicted: the other class.
      count: number of images.
    """

    true: int
    predicted: int
    count: int


def mean_loss(logits: np.ndarray, label: np.ndarray) -> float:
    """Returns the mean cross-entropy in nats.

    Args:
      logits: [N, K].
      label: class of each image, [N].
    """
    log_probability = special.log_softmax(np.float64(logits), axis=1)
    return -float(np.mean(log_probability[np.arange(len(label)), label]))


def top_k_accuracy(logits: np.ndarray, label: np.ndarray, k: int) -> float:
    """Returns the fraction of images whose class has one of the k largest logits.

    Of equal logits the one of the smaller class counts as larger, as for `argmax`.

    Args:
      logits: [N, K].
      label: class of each image, [N].
      k: from 1 to K.
    """
    own = logits[np.arange(len(label)), label][:, None]
    earlier = np.arange(logits.shape[1]) < label[:, None]
    above = (logits > own) | ((logits == own) & earlier)
    return float(np.mean(above.sum(axis=1) < k))


def calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: int = BINS
) -> float:
    """Returns the expected calibration error (Guo et al. 2017).

    The images are put into bins of equal width by the probability of the predicted
    class. The error is the mean over images of the difference between the accuracy and
    the mean confidence in their bin.

    Args:
      confidence: probability of the predicted class, in (0, 1], [N].
      correct: whether that is the class of the image, [N].
      bins: number of bins; each is open below and closed above.
    """
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    difference = np.bincount(number, np.float64(correct) - confidence, bins)
    return float(np.abs(difference).sum() / len(confidence))


def class_accuracy(
    prediction: np.ndarray, label: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the number of images of each class, and how many of them are correct.

    Args:
      prediction: predicted class of each image, [N].
      label: class of each image, [N].
      num_classes: K.

    Returns:
      Two arrays [K].
    """
    total = np.bincount(label, minlength=num_classes)
    correct = np.bincount(label[prediction == label], minlength=num_classes)
    return total, correct


def confusions(
    prediction: np.ndarray, label: np.ndarray, num_classes: int, most: int
) -> list[Confusion]:
    """Returns the most frequent confusions, in descending order.

    Args:
      prediction: predicted class of each image, [N].
      label: class of each image, [N].
      num_classes: K.
      most: number of confusions at most; of equally frequent ones those of the smaller
        class.
    """
    wrong = prediction != label
    pairs, counts = np.unique(
        np.int64(label[wrong]) * num_classes + prediction[wrong], return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:most]
    return [
        Confusion(*map(int, divmod(pairs[at], num_classes)), int(counts[at]))
        for at in order
    ]
