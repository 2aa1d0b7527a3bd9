import itertools

import jax
import numpy as np
import pytest

from kdjax import losses
from kdjax.distill.fsp import Fsp
from tests.distill import peers

TF = {"pool": "max", "distance": "l2", "stem": False, "weight": 5e-4}


def test_terms_are_the_losses_of_adjacent_stages():
    """The stem comes first; a pool and a distance reach the loss."""
    maps = peers.maps_of(10), peers.maps_of(20)
    sides = [peers.outputs_of(side[1:], stem=side[0]) for side in maps]
    for stem, settings in (
        (True, {}),
        (False, {"pool": "max", "distance": "l2"}),
    ):
        method = Fsp(stem=stem, **settings)
        assert not method.init(jax.random.key(0), *sides)
        loss = jax.jit(lambda *sides, method=method: method.loss({}, {}, *sides, None))
        terms, _ = loss(*sides)
        points = [side if stem else side[1:] for side in maps]
        pairs = zip(*map(itertools.pairwise, points), strict=True)
        expected = [losses.fsp(*both, **settings) for both in pairs]
        assert list(terms) == [f"pair_{n}" for n in range(1, len(expected) + 1)]
        for term, wanted in zip(terms.values(), expected, strict=True):
            np.testing.assert_allclose(term, wanted, rtol=1e-5)


def test_stages_of_different_widths_are_connected():
    sides = (
        peers.outputs_of(peers.maps_of(30, peers.OTHER)),
        peers.outputs_of(peers.maps_of(20)),
    )
    method = Fsp(stem=False)
    variables = jax.jit(method.init)(jax.random.key(0), *sides)
    kernels = [
        variables["params"][f"stage{n}_conv"]["kernel"].shape[2:] for n in (1, 2, 3)
    ]
    assert kernels == [(12, 16), (24, 32), (48, 64)]
    loss = jax.jit(lambda *given: method.loss(given[0], {}, *given[1:], None))
    terms, stats = loss(variables, *sides)
    assert all(np.all(np.isfinite(term)) for term in terms.values())
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
    with pytest.raises(ValueError, match=r"widths='refuse' .* \[12, 24, 48\]"):
        Fsp(stem=False, widths="refuse").init(jax.random.key(0), *sides)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pool": "min"}, r"methods\.fsp\.pool='min' is none of"),
        ({"distance": "l1"}, r"methods\.fsp\.distance='l1' is none of"),
        ({"widths": "pad"}, r"methods\.fsp\.widths='pad' is none of"),
    ],
)
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        Fsp(**given)


def test_rejects_networks_that_do_not_fit():
    one = peers.outputs_of([np.zeros((2, 4, 4, 3))])
    with pytest.raises(ValueError, match="needs two stages or more, not 1; stem=True"):
        Fsp(stem=False).init(jax.random.key(0), one, one)
    assert not Fsp().init(jax.random.key(0), one, one)
    odd = peers.outputs_of([np.zeros((2, 5, 5, 3)), np.zeros((2, 3, 3, 3))])
    with pytest.raises(ValueError, match=r"pool='max' .* not \(5, 5\) and \(3, 3\)"):
        Fsp(**TF).init(jax.random.key(0), odd, odd)
    with pytest.raises(ValueError, match="fsp needs as many stages"):
        Fsp().init(jax.random.key(0), one, odd)
