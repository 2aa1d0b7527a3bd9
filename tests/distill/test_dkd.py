import jax
import jax.numpy as jnp
import pytest

from kdjax.distill.dkd import Dkd
from kdjax.distill.method import Outputs


def test_rejects_two_classes():
    outputs = Outputs(jnp.zeros((4, 2)), None)
    with pytest.raises(ValueError, match=r"methods\.dkd needs 3 classes .* not 2"):
        Dkd().init(jax.random.key(0), outputs, outputs)
    outputs = Outputs(jnp.zeros((4, 3)), None)
    assert Dkd().init(jax.random.key(0), outputs, outputs) == {}


def test_rejects_a_temperature_of_zero():
    with pytest.raises(ValueError, match=r"methods\.dkd\.temperature=0\.0 is not"):
        Dkd(temperature=0.0)
