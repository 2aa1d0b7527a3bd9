import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import rkd
from tests.distill import peers, relations


@pytest.mark.parametrize(
    ("name", "weights"),
    [("d25_a50", (25, 50)), ("dist_only", (1, 0)), ("angle_only", (0, 1))],
)
def test_matches_repdistiller(name, weights):
    expected = peers.reference(f"RKD/{name}")
    method = rkd.Rkd(distance_weight=weights[0], angle_weight=weights[1])
    with jax.enable_x64(True):
        loss, gradient = relations.loss_and_gradient(
            method, relations.drawn(40, 8, 64), relations.drawn(41, 8, 128)
        )
        np.testing.assert_allclose(loss, expected["loss"], rtol=1e-9)
        np.testing.assert_allclose(
            jnp.linalg.norm(gradient), expected["grad_norm"][0], rtol=1e-9
        )


def test_mhgd_form_matches_mhgd_code(golden):
    arrays = golden("baselines")
    with jax.enable_x64(True):
        loss, gradient = relations.loss_and_gradient(
            rkd.Rkd(form="mhgd"), arrays["embed_s"], arrays["embed_t"]
        )
        np.testing.assert_allclose(loss, arrays["loss__rkd_25_50"], rtol=1e-9)
        np.testing.assert_allclose(
            gradient, arrays["grad__rkd_25_50__0"], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("form", rkd.FORMS)
def test_degenerate_inputs(form):
    relations.assert_robust_to_degenerate_inputs(rkd.Rkd(form=form))


@pytest.mark.parametrize("form", rkd.FORMS)
def test_four_devices_match_one(form):
    relations.assert_four_devices_match_one(rkd.Rkd(form=form))


def test_invariant_to_rotation_and_scale():
    student = relations.drawn(0, 6, 4, dtype="float32")
    rotation, _ = np.linalg.qr(relations.drawn(1, 4, 4, dtype="float32"))
    loss, _ = relations.loss_and_gradient(rkd.Rkd(), student, 3 * student @ rotation)
    np.testing.assert_allclose(loss, 0, atol=1e-8)


@pytest.mark.parametrize("field", ["form", "scope"])
def test_rejects_invalid_settings(field):
    with pytest.raises(ValueError, match=rf"methods\.rkd\.{field}='x' is none of"):
        rkd.Rkd(**{field: "x"})
