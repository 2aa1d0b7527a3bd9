"""A linear classifier of fixed features."""

import warnings
from typing import NamedTuple

import numpy as np

#: Weights of the penalty among which the held-out images choose.
PENALTIES = tuple(10.0**exponent for exponent in range(-5, 2))

#: Fraction of the training images that is held out for that.
HELD_OUT = 0.2

#: Most iterations of L-BFGS, and the largest entry of the gradient at which it ends.
_ITERATIONS, _TOLERANCE = 1000, 1e-6


class Classifier(NamedTuple):
    """A linear classifier of features less `mean`, over `scale`.

    Attributes:
      mean: of each feature on the training images, [D].
      scale: their standard deviation, [D]; 1 where a feature is constant.
      kernel: [D, K].
      bias: [K].
      penalty: weight of the penalty.
      converged: whether L-BFGS found the minimum.
    """

    mean: np.ndarray
    scale: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    penalty: float
    converged: bool

    def predict(self, feature: np.ndarray) -> np.ndarray:
        """Returns the class of each row of features [N, D]."""
        return np.argmax(self.logits(feature), axis=1)

    def logits(self, feature: np.ndarray) -> np.ndarray:
        """Returns [N, K]."""
        standardized = (np.float64(feature) - self.mean) / self.scale
        return standardized @ self.kernel + self.bias


def fit(feature: np.ndarray, label: np.ndarray, penalty: float) -> Classifier:
    """Minimizes the mean cross-entropy plus penalty / 2 times the squared kernel.

    The bias is not penalized. The minimum is unique but for a constant of the biases,
    so that neither a start nor a schedule matters.

    Args:
      feature: [N, D].
      label: classes 0 to K - 1, each of which occurs, [N].
      penalty: positive.
    """
    from sklearn import exceptions, linear_model  # Slow to import.

    feature = np.float64(feature)
    mean, scale = feature.mean(axis=0), feature.std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    # scikit-learn's factor is on the sum of the cross-entropies. Of two classes it has
    # one column, the difference of two, whose squares are twice theirs.
    columns = 2 if len(np.unique(label)) == 2 else 1
    model = linear_model.LogisticRegression(
        C=columns / (penalty * len(label)), max_iter=_ITERATIONS, tol=_TOLERANCE
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit((feature - mean) / scale, label)
    failed = any(issubclass(x.category, exceptions.ConvergenceWarning) for x in caught)
    kernel, bias = model.coef_.T, model.intercept_
    if kernel.shape[1] == 1:  # Of two classes, the log odds of the second.
        kernel = np.concatenate([-kernel / 2, kernel / 2], axis=1)
        bias = np.concatenate([-bias / 2, bias / 2])
    return Classifier(mean, scale, kernel, bias, penalty, not failed)


def choose_penalty(feature: np.ndarray, label: np.ndarray) -> dict[float, float]:
    """Returns the accuracy on held-out training images by penalty, the best first.

    Of equally accurate ones the largest penalty is the first.

    Args:
      feature: of the training images, [N, D].
      label: their classes, [N].

    Raises:
      ValueError: if a class has fewer than two images, or the held-out images are fewer
        than the classes.
    """
    from sklearn import model_selection  # Slow to import.

    classes, counts = np.unique(label, return_counts=True)
    if min(counts) < 2 or round(HELD_OUT * len(label)) < len(classes):
        raise ValueError(
            f"{len(label)} training images of {len(classes)} classes are too few to"
            " hold some out for choosing a penalty: give one by --penalty"
        )
    kept, held_out = model_selection.train_test_split(
        np.arange(len(label)), test_size=HELD_OUT, stratify=label, random_state=0
    )
    found = {}
    for penalty in reversed(PENALTIES):
        predicted = fit(feature[kept], label[kept], penalty).predict(feature[held_out])
        found[penalty] = float(np.mean(predicted == label[held_out]))
    return dict(sorted(found.items(), key=lambda item: -item[1]))
