import numpy as np
import pytest
from scipy import special

from kdjax.probe import linear


def sample(classes, count=120, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(count) % classes
    feature = rng.normal(size=(count, 5)) + rng.normal(size=(classes, 5))[label]
    # Of other units, and one that is the same everywhere.
    return np.float32(np.c_[feature * [1, 100, 0.01, 1, 1], np.ones(count)]), label


@pytest.mark.parametrize("classes", [2, 3])
def test_the_gradient_of_the_stated_loss_is_0(classes):
    """Of the mean cross-entropy plus penalty / 2 times the squared kernel."""
    feature, label = sample(classes)
    found = linear.fit(feature, label, penalty=0.01)
    assert found.converged
    assert found.kernel.shape == (6, classes)
    probability = special.softmax(found.logits(feature), axis=1)
    error = probability - np.eye(classes)[label]
    standardized = (feature - feature.mean(0)) / np.where(
        np.arange(6) < 5, feature.std(0), 1
    )
    gradient = standardized.T @ error / len(label) + 0.01 * found.kernel
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
    np.testing.assert_allclose(error.mean(axis=0), 0, atol=1e-5)
    assert np.mean(found.predict(feature) == label) > 0.6


def test_the_penalty_is_the_best_on_images_that_it_did_not_learn_from():
    """Features of chance alone: a large penalty does no worse, and it is the first."""
    rng = np.random.default_rng(0)
    feature, label = rng.normal(size=(60, 80)), np.arange(60) % 3
    found = linear.choose_penalty(feature, label)
    assert found.keys() == set(linear.PENALTIES)
    values = list(found.values())
    assert values == sorted(values, reverse=True)
    assert max(values) < 0.9
    best = [penalty for penalty, value in found.items() if value == values[0]]
    assert next(iter(found)) == max(best)


def test_too_few_images_to_hold_some_out():
    feature, label = sample(3, count=12)
    with pytest.raises(ValueError, match="12 training images of 3 classes are too few"):
        linear.choose_penalty(feature, label)
