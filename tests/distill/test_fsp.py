import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill import fsp
from kdjax.distill.fsp import Fsp
from tests.distill import peers

TF = {"pool": "max", "distance": "l2", "stem": False, "weight": 5e-4}


def test_matches_repdistiller():
    peers.assert_matches_reference(
        Fsp(stem=False), "FSP", peers.maps_of(10), peers.maps_of(20)
    )


def test_matches_kd_methods_with_tf(golden):
    peers.assert_matches_baseline(Fsp(**TF), golden, "fsp")


def test_matrix_by_hand():
    front = jnp.asarray([[[[1.0], [3.0]], [[5.0], [7.0]]]])
    back = jnp.asarray([[[[2.0, -1.0]]]])
    np.testing.assert_allclose(fsp.fsp_matrix(front, back), [[[8.0, -4.0]]])
    highest = fsp.fsp_matrix(front, back, pool="max")
    np.testing.assert_allclose(highest, [[[14.0, -7.0]]])


def test_first_stage_is_the_stem():
    maps, teacher = peers.maps_of(10), peers.maps_of(20)
    sides = [peers.outputs_of(side[1:], stem=side[0]) for side in (maps, teacher)]
    terms, _ = Fsp().loss({}, {}, *sides, None)
    assert list(terms) == ["pair_1", "pair_2"]
    expected = peers.reference("FSP")["per_stage"]
    np.testing.assert_allclose(
        [jnp.mean(term) for term in terms.values()], expected, rtol=1e-4
    )


def test_other_widths_and_sizes_are_connected():
    sides = (
        peers.outputs_of(peers.maps_of(30, peers.OTHER)),
        peers.outputs_of(peers.maps_of(20)),
    )
    method = Fsp(stem=False)
    variables = method.init(jax.random.key(0), *sides)
    kernels = [
        variables["params"][f"stage{n}_conv"]["kernel"].shape[2:] for n in (1, 2, 3)
    ]
    assert kernels == [(12, 16), (24, 32), (48, 64)]
    terms, stats = method.loss(variables, {}, *sides, None)
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
    with pytest.raises(ValueError, match="needs two points or more, not 1; stem=True"):
        Fsp(stem=False).init(jax.random.key(0), one, one)
    assert not Fsp().init(jax.random.key(0), one, one)
    odd = peers.outputs_of([np.zeros((2, 5, 5, 3)), np.zeros((2, 3, 3, 3))])
    with pytest.raises(ValueError, match=r"pool='max' .* not \(5, 5\) and \(3, 3\)"):
        Fsp(**TF).init(jax.random.key(0), odd, odd)
    with pytest.raises(ValueError, match="fsp needs as many stages"):
        Fsp().init(jax.random.key(0), one, odd)


@pytest.mark.parametrize("given", [{}, TF])
def test_degenerate_inputs(given):
    # Products of two maps are squared.
    peers.assert_robust_to_degenerate_inputs(Fsp(**given), huge=1e7)
