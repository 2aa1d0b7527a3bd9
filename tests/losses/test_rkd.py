import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses.rkd import FORMS
from tests.losses import batches


@pytest.mark.parametrize(
    ("name", "weights"),
    [("d25_a50", (25, 50)), ("dist_only", (1, 0)), ("angle_only", (0, 1))],
)
def test_matches_repdistiller(name, weights):
    loss = functools.partial(
        losses.rkd, distance_weight=weights[0], angle_weight=weights[1]
    )
    batches.assert_matches_reference(loss, f"RKD/{name}", *batches.pooled())


def test_mhgd_form_matches_mhgd_code(golden):
    batches.assert_matches_baseline(
        functools.partial(losses.rkd, form="mhgd"), golden, "rkd_25_50", "embed"
    )


def test_by_hand():
    """A triangle with sides 3, 4, 5 against one with equal sides."""
    student = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    teacher = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, np.sqrt(3)]])
    terms = losses.rkd_terms(student, teacher, distance_weight=1, angle_weight=1)
    sides = np.array([[0, 3, 4], [3, 0, 5], [4, 5, 0]]) / 4
    square = np.square(sides - (1 - np.eye(3))) / 2
    np.testing.assert_allclose(terms["distance"], square.mean(1), rtol=1e-5)
    # Two entries a corner; those of a direction with itself are equal.
    cosines = np.array([0, 3 / 5, 4 / 5])
    expected = 2 * np.square(cosines - 0.5) / 2 / 9
    np.testing.assert_allclose(terms["angle"], expected, rtol=1e-4)


def test_invariant_to_rotation_and_scale():
    student = batches.drawn(0, 6, 4)
    rotation, _ = np.linalg.qr(batches.drawn(1, 4, 4))
    with jax.enable_x64(True):
        found = losses.rkd(jnp.asarray(student), jnp.asarray(3 * student @ rotation))
    np.testing.assert_allclose(found, 0, atol=1e-15)


@pytest.mark.parametrize("form", FORMS)
def test_four_devices_match_one(form):
    loss = functools.partial(losses.rkd, form=form)
    batches.assert_devices_agree(loss, batches.drawn(0, 8, 5), batches.drawn(1, 8, 7))


@pytest.mark.parametrize("form", FORMS)
def test_degenerate_inputs(form):
    loss = functools.partial(losses.rkd, form=form)
    batches.assert_finite_vectors(loss)
    batches.assert_computes_in_float32(loss, *batches.pooled())


def test_rejects_invalid_inputs():
    with pytest.raises(ValueError, match=r"rkd: form='x' is none of"):
        losses.rkd(*batches.pooled(), form="x")
    with pytest.raises(ValueError, match=r"rkd: .* not vectors"):
        losses.rkd(np.zeros((4, 2, 2, 3)), np.zeros((4, 2)))
