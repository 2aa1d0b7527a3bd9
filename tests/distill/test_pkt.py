import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import pkt
from tests.distill import peers, relations


def test_matches_repdistiller():
    expected = peers.reference("PKT")
    with jax.enable_x64(True):
        loss, gradient = relations.loss_and_gradient(
            pkt.Pkt(), relations.drawn(40, 8, 64), relations.drawn(41, 8, 128)
        )
        # The original adds 1e-7 to the lengths of vectors.
        np.testing.assert_allclose(loss, expected["loss"], rtol=1e-6)
        np.testing.assert_allclose(
            jnp.linalg.norm(gradient), expected["grad_norm"][0], rtol=1e-6
        )


def test_degenerate_inputs():
    relations.assert_robust_to_degenerate_inputs(pkt.Pkt())


def test_four_devices_match_one():
    relations.assert_four_devices_match_one(pkt.Pkt())


def test_rejects_invalid_settings():
    with pytest.raises(ValueError, match=r"methods\.pkt\.scope='x' is none of"):
        pkt.Pkt(scope="x")
