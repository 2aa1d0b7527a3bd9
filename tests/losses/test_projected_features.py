"""ICKD, ITRD, SRD, PEFD and WKD-F, behind their projections.

The projections, and several devices, are in tests/distill/test_projections.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches, feature_maps, released

VECTORS = {
    "itrd_correlation": losses.itrd_correlation,
    "itrd_mutual": losses.itrd_mutual,
    "srd": losses.srd,
    "cosine_distance": losses.cosine_distance,
}
MAPS = {"ickd": losses.ickd, "wkd_features": losses.wkd_features}


@pytest.mark.parametrize(
    ("grid", "student", "teacher"),
    [(1, (3, 5), (4, 2)), (2, (5, 4), (4, 4)), (4, (8, 8), (5, 6))],
)
def test_wkd_features_match_the_authors(grid, student, teacher):
    """On maps of other sizes, whose cells may overlap."""
    released.assert_matches(
        f"wkd_feature/grid {grid}",
        functools.partial(losses.wkd_features, grid=grid),
        {
            "student": released.drawn("student map", 7, *student, 6),
            "teacher": released.drawn("teacher map", 7, *teacher, 6),
        },
        names={"student": "student map"},
    )


def test_a_grid_finer_than_the_map_repeats_its_positions():
    """There the release has no number, since one position has no deviation."""
    student, teacher = (released.drawn(x, 3, 2, 2, 4) for x in ("s", "t"))
    found = losses.wkd_features(student, teacher, grid=4, mean_weight=1.0)
    wanted = np.mean(np.sum(np.square(student - teacher), axis=-1), axis=(1, 2))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_equal_embeddings_correlate_by_less_than_one():
    """(n - 1) / n, since the release divides products by n, and variances by n - 1."""
    x = released.drawn("student", 8, 5)
    found = jax.jit(losses.itrd_correlation)(x, x)
    np.testing.assert_allclose(found, np.log2(5 * (1 / 8) ** 3), rtol=1e-5)


def test_mutual_information_by_hand():
    """Two students alike, two teachers apart: halves against a diagonal of halves."""
    student, teacher = np.ones((2, 3)), np.eye(2)
    mutual = jax.jit(losses.itrd_mutual)
    np.testing.assert_allclose(np.mean(mutual(student, teacher)), 0.5, rtol=1e-6)
    np.testing.assert_allclose(mutual(student, student), 0, atol=1e-6)


def test_fourth_powers_by_hand():
    """Entries of -1 and 1 over the batch, and their opposites: |2|^4 four times."""
    student = np.asarray([[1.0, 1], [-1, -1]])
    found = jax.jit(losses.srd)(student, -student)
    np.testing.assert_allclose(found, np.log(4 * (2 / 1.0001**0.5) ** 4), rtol=1e-5)


@pytest.mark.parametrize("name", VECTORS)
def test_degenerate_vectors(name):
    loss = VECTORS[name]
    batches.assert_finite_vectors(loss)
    pair = [batches.drawn(seed, 8, 5) for seed in (0, 1)]
    batches.assert_computes_in_float32(loss, *pair)
    for student, teacher in ((np.zeros((2, 3)), np.zeros((3, 3))), (pair[0][0],) * 2):
        with pytest.raises(ValueError, match=name):
            loss(student, teacher)


@pytest.mark.parametrize("name", MAPS)
def test_degenerate_maps(name):
    loss = MAPS[name]
    student, teacher = (
        jnp.asarray(released.drawn(side, 3, *size, 6), jnp.float32)
        for side, size in (("student", (4, 3)), ("teacher", (2, 2)))
    )
    feature_maps.assert_robust_to_degenerate_inputs(loss, student, teacher)
    with pytest.raises(ValueError, match=f"{name}: student"):
        loss(student, teacher[..., :5])


def test_rejects_maps_of_other_batches():
    with pytest.raises(ValueError, match=r"ickd: .* not two features of one batch"):
        losses.ickd(np.zeros((2, 3, 3, 4)), np.zeros((3, 3, 3, 4)))
