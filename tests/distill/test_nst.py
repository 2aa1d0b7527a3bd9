import jax
import numpy as np

from kdjax import losses
from kdjax.distill.nst import Nst
from tests.distill import peers


def test_terms_are_the_losses_of_the_stages():
    maps = peers.maps_of(30, peers.OTHER), peers.maps_of(20)
    student, teacher = map(peers.outputs_of, maps)
    method = Nst()
    assert method.init(None, student, teacher) == {}
    loss = jax.jit(lambda *sides: method.loss({}, {}, *sides, None))
    terms, stats = loss(student, teacher)
    assert stats == {}
    assert list(terms) == ["stage_1", "stage_2", "stage_3"]
    for term, *both in zip(terms.values(), *maps, strict=True):
        np.testing.assert_allclose(term, jax.jit(losses.nst)(*both), rtol=1e-5)
