import functools

import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.wkd_logits import transport_cost
from tests.losses import batches, released


def costs(sharpness=1.0):
    """Returns those of eleven drawn classes of six examples."""
    features = released.drawn("class features", released.CLASSES, 6, 4)
    label = np.repeat(np.arange(released.CLASSES), 6)
    return losses.class_costs(
        features.reshape(-1, 4),
        label,
        num_classes=released.CLASSES,
        sharpness=sharpness,
    )


def test_costs_match_the_authors():
    """Theirs are 1 - CKA, and sharpened when they are read."""
    expected = released.values()["wkd_cost"]
    distances = -np.log1p(-costs())
    np.testing.assert_allclose(distances.sum(), expected["value"], rtol=1e-9)
    np.testing.assert_allclose(
        released.figures("cost", distances), expected["gradient"]["cost"], rtol=1e-9
    )


def test_costs_of_classes_without_variance_or_examples():
    features = released.drawn("features", 7, 4)
    label = np.asarray([0, 0, 0, 1, 1, 2, 2])
    features[5:] = 0.1
    found = losses.class_costs(features, label, num_classes=4)
    one = -np.expm1(-1)
    np.testing.assert_allclose(found[2:], one * (1 - np.eye(4)[2:]), rtol=1e-6)
    assert 0 <= found[0, 1] < one
    np.testing.assert_array_equal(found, found.T)
    empty = losses.class_costs(features[:0], label[:0], num_classes=3)
    np.testing.assert_allclose(empty, one * (1 - np.eye(3)))


def test_matches_the_authors():
    settings = {"cost": costs(), "gamma": 60.0, "temperature": 2.5}
    loss = functools.partial(losses.wkd_logits, label=released.LABEL, **settings)
    released.assert_matches("wkd_logit", loss, released.logits())


def test_transport_of_two_points_by_hand():
    """All mass moves from one class to the other, at a cost of 1/4."""
    cost = np.asarray([[0, 0.25], [0.25, 0]])
    one, other = np.asarray([[1.0, 0]]), np.asarray([[0, 1.0]])
    for target, wanted in ((other, 0.25), (one, 0)):
        found = transport_cost(
            one, target, one * 0 + 0.5, cost=cost, regularization=0.05, iterations=10
        )
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("cost", [np.zeros((100, 100)), 1 - np.eye(100)])
def test_degenerate_inputs(cost):
    label = np.asarray([3, 14, 15, 92, 65, 35, 89, 79])
    loss = functools.partial(losses.wkd_logits, label=label, cost=cost)
    batches.assert_finite_logits(loss)
    batches.assert_computes_in_float32(loss, *batches.logits())


def test_rejects_invalid_inputs():
    two = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"cost \(2, 2\) is not of 3 classes"):
        losses.wkd_logits(two, two, np.arange(2), cost=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"wkd_logits: temperature=0\.0 is not"):
        losses.wkd_logits(
            two, two, np.arange(2), cost=np.zeros((3, 3)), temperature=0.0
        )
