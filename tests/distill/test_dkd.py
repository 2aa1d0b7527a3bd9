import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.distill.dkd import Dkd
from kdjax.distill.method import Outputs
from tests.distill.logits import LABEL, terms_of
from tests.losses import batches


@pytest.mark.parametrize("standardize", [False, True])
def test_terms_are_the_loss(standardize):
    terms = terms_of(Dkd(alpha=2.0, beta=3.0, temperature=5.0, standardize=standardize))
    assert terms.keys() == {"target_class", "non_target_class"}
    logits = batches.logits()
    if standardize:
        logits = map(losses.standardize_logits, logits)
    expected = losses.dkd(*logits, LABEL, alpha=2.0, beta=3.0, temperature=5.0)
    np.testing.assert_array_equal(sum(terms.values()), expected)


def test_rejects_two_classes():
    outputs = Outputs(jnp.zeros((4, 2)), None)
    with pytest.raises(ValueError, match=r"methods\.dkd needs 3 classes .* not 2"):
        Dkd().init(jax.random.key(0), outputs, outputs)
    outputs = Outputs(jnp.zeros((4, 3)), None)
    assert Dkd().init(jax.random.key(0), outputs, outputs) == {}


def test_rejects_a_temperature_of_zero():
    with pytest.raises(ValueError, match=r"methods\.dkd\.temperature=0\.0 is not"):
        Dkd(temperature=0.0)
