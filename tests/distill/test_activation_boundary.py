import jax
import numpy as np
import pytest

from kdjax import losses
from kdjax.distill.activation_boundary import ActivationBoundary
from tests.distill import peers


def test_stages_are_weighted_by_powers_of_two():
    maps = peers.maps_of(10), peers.maps_of(20)
    student, teacher = map(peers.outputs_of, maps)
    method = ActivationBoundary()
    loss = jax.jit(lambda *sides: method.loss({}, {}, *sides, None))
    terms, stats = loss(student, teacher)
    assert stats == {}
    for weight, term, *both in zip((0.25, 0.5, 1), terms.values(), *maps, strict=True):
        expected = weight * jax.jit(losses.activation_boundary)(*both)
        np.testing.assert_allclose(term, expected, rtol=1e-5)


def test_connectors_are_where_the_widths_differ():
    student, teacher = (
        peers.outputs_of([np.zeros((2, 8, 8, width)), np.zeros((2, 4, 4, 5))])
        for width in (3, 4)
    )
    for connect, stages in (("widths", (1,)), ("always", (1, 2))):
        method = ActivationBoundary(connect=connect)

        def loss(variables, student, teacher, method=method):
            return method.loss(variables, {}, student, teacher, None)

        variables = jax.eval_shape(method.init, jax.random.key(0), student, teacher)
        expected = {f"stage{n}_{part}" for n in stages for part in ("conv", "bn")}
        assert variables["params"].keys() == expected
        terms, stats = jax.eval_shape(loss, variables, student, teacher)
        assert [term.shape for term in terms.values()] == [(2,), (2,)]
        assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])


def test_rejects_an_unknown_choice():
    with pytest.raises(ValueError, match=r"activation_boundary\.connect='never'"):
        ActivationBoundary(connect="never")
