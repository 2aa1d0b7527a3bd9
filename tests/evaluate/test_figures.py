"""Figures against cases by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from kdjax.evaluate import figures


@pytest.fixture
def drawn():
    """Logits [60, 7] and labels of which the logits know something."""
    random = np.random.default_rng(0)
    label = random.integers(0, 6, 60)  # The last class has no images.
    logits = random.normal(size=(60, 7)).astype(np.float32)
    logits[np.arange(60), label] += 1
    return logits, label


def test_top_k(drawn):
    logits, label = drawn
    for k in range(1, 7):
        wanted = metrics.top_k_accuracy_score(label, logits, k=k, labels=range(7))
        assert figures.top_k_accuracy(logits, label, k) == wanted
    assert figures.top_k_accuracy(logits, label, 7) == 1


def test_top_k_of_equal_logits_is_that_of_argmax():
    logits, label = np.zeros((3, 3)), np.array([0, 1, 2])
    found = [figures.top_k_accuracy(logits, label, k) for k in (1, 2, 3)]
    assert found == pytest.approx([1 / 3, 2 / 3, 1])


def test_loss(drawn):
    logits, label = drawn
    probability = np.exp(np.float64(logits))
    probability /= probability.sum(axis=1, keepdims=True)
    assert figures.mean_loss(logits + 1000, label) == pytest.approx(
        metrics.log_loss(label, probability, labels=range(7)), rel=1e-4
    )
    # 1 and 3 parts of 4.
    logits = np.log([[1.0, 3.0]])
    assert figures.mean_loss(logits, np.array([0])) == pytest.approx(np.log(4))


def test_calibration_error_by_hand():
    # Bins of a fifth: (0.4, 0.6] holds three images of mean confidence 0.55 and
    # accuracy 1/3; (0.8, 1] two of 0.95 and 1.
    confidence = np.array([0.45, 0.6, 0.6, 0.9, 1.0])
    correct = np.array([True, False, False, True, True])
    wanted = (3 * (0.55 - 1 / 3) + 2 * 0.05) / 5
    assert figures.calibration_error(confidence, correct, 5) == pytest.approx(wanted)
    # In one bin errors of both signs cancel.
    one = figures.calibration_error(confidence, correct, 1)
    assert one == pytest.approx(0.71 - 0.6)
    assert figures.BINS == 15


def test_classes_and_confusions_by_hand():
    label = np.array([0, 0, 0, 1, 1, 3, 3, 3], np.int32)
    prediction = np.array([0, 1, 1, 1, 0, 3, 0, 0], np.int32)
    total, correct = figures.class_accuracy(prediction, label, 4)
    assert total.tolist() == [3, 2, 0, 3]
    assert correct.tolist() == [1, 1, 0, 1]
    found = figures.confusions(prediction, label, 4, 10)
    assert found == [(0, 1, 2), (3, 0, 2), (1, 0, 1)]
    assert figures.confusions(prediction, label, 4, 1) == found[:1]
    assert figures.confusions(label, label, 4, 10) == []


def test_confusions_are_those_of_the_matrix(drawn):
    logits, label = drawn
    prediction = logits.argmax(axis=1)
    matrix = metrics.confusion_matrix(label, prediction, labels=range(7))
    total, correct = figures.class_accuracy(prediction, label, 7)
    assert total.tolist() == matrix.sum(axis=1).tolist()
    assert correct.tolist() == matrix.diagonal().tolist()
    np.fill_diagonal(matrix, 0)
    found = figures.confusions(prediction, label, 7, 49)
    assert sum(count for *_, count in found) == matrix.sum() > 0
    assert all(matrix[true, other] == count for true, other, count in found)
    assert found[0].count == matrix.max()
