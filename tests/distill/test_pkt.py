import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import pkt
from tests.distill import peers, relations


def test_it_is_repdistillers():
    expected = peers.reference("PKT")
    with jax.enable_x64(True):
        loss, gradient = relations.loss_and_gradient(
            pkt.Pkt(), relations.drawn(40, 8, 64), relations.drawn(41, 8, 128)
        )
        np.testing.assert_allclose(loss, expected["loss"], rtol=1e-6)
        np.testing.assert_allclose(
            jnp.linalg.norm(gradient), expected["grad_norm"][0], rtol=1e-6
        )


def test_it_bears_anything():
    relations.assert_bears_anything(pkt.Pkt())


def test_four_devices_are_one():
    relations.assert_four_devices_are_one(pkt.Pkt())


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"methods\.pkt\.scope='x' is none of"):
        pkt.Pkt(scope="x")
