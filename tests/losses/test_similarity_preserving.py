import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches, feature_maps


def test_matches_repdistiller():
    feature_maps.assert_matches_reference(
        losses.similarity_preserving,
        "SP/last",
        feature_maps.drawn(10)[-1:],
        feature_maps.drawn(20)[-1:],
    )


def test_by_hand():
    """Rows (1, 0) and (0, 1) of orthogonal maps against (1, 1) / sqrt(2) of equal."""
    student = np.eye(2).reshape(2, 1, 2, 1)
    teacher = np.ones((2, 3, 3, 5))
    half = np.sqrt(0.5)
    expected = ((1 - half) ** 2 + half**2) / 2
    np.testing.assert_allclose(
        losses.similarity_preserving(student, teacher), [expected] * 2, rtol=1e-5
    )


def test_four_devices_match_one():
    batches.assert_devices_agree(
        losses.similarity_preserving,
        batches.drawn(0, 8, 2, 2, 5),
        batches.drawn(1, 8, 3, 3, 4),
    )


def test_degenerate_inputs():
    batches.assert_finite_vectors(losses.similarity_preserving)
    student, teacher = (batches.drawn(seed, 4, 2, 2, 3) for seed in (0, 1))
    batches.assert_finite(
        losses.similarity_preserving,
        [(x * student, y * teacher) for x in (0, 1, 1e20, 1e-25) for y in (0, 1, 1e20)],
    )
    batches.assert_computes_in_float32(losses.similarity_preserving, student, teacher)


def test_rejects_other_batches():
    with pytest.raises(ValueError, match=r"similarity_preserving: .* one batch"):
        losses.similarity_preserving(np.zeros((8, 3)), np.zeros((7, 3)))
