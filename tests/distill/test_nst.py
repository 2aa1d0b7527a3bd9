import numpy as np

from kdjax import losses
from kdjax.distill.nst import Nst
from tests.distill import peers


def test_terms_are_the_losses_of_the_stages():
    maps = peers.maps_of(30, peers.OTHER), peers.maps_of(20)
    student, teacher = map(peers.outputs_of, maps)
    method = Nst()
    assert method.init(None, student, teacher) == {}
    terms, stats = method.loss({}, {}, student, teacher, None)
    assert stats == {}
    assert list(terms) == ["stage_1", "stage_2", "stage_3"]
    for term, *both in zip(terms.values(), *maps, strict=True):
        np.testing.assert_array_equal(term, losses.nst(*both))
