import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.distill.fitnets import Fitnets
from tests.distill import peers


def test_the_regressor_of_the_student_is_convolution_batch_norm_and_relu():
    student, teacher = peers.maps_of(30, peers.OTHER), peers.maps_of(20)
    sides = peers.outputs_of(student), peers.outputs_of(teacher)
    method = Fitnets()
    variables = jax.jit(method.init)(jax.random.key(0), *sides)
    loss = jax.jit(lambda *given: method.loss(given[0], {}, *given[1:], None))
    terms, stats = loss(variables, *sides)
    kernel = np.asarray(variables["params"]["stage1_conv"]["kernel"])[0, 0]
    assert kernel.shape == (24, 32)
    x = student[1] @ kernel
    x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    target = teacher[1].reshape(8, 4, 2, 4, 2, 32).mean((2, 4))
    expected = np.square(np.maximum(x, 0) - target).mean((1, 2, 3))
    assert terms.keys() == {"stage_1"}
    np.testing.assert_allclose(terms["stage_1"], expected, rtol=1e-4)
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])


def test_the_regressor_of_the_teacher_is_where_the_widths_differ():
    student = [np.ones((2, 8, 8, 3)), np.ones((2, 4, 4, 5))]
    teacher = [np.ones((2, 8, 8, 4)), np.ones((2, 4, 4, 5))]
    sides = peers.outputs_of(student), peers.outputs_of(teacher)
    method = Fitnets(regressor="teacher", stages="all")
    variables = jax.jit(method.init)(jax.random.key(0), *sides)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {"stage1_conv": {"kernel": (1, 1, 4, 3)}}
    terms, stats = method.loss(variables, {}, *sides, None)
    assert stats == {}
    mapped = variables["params"]["stage1_conv"]["kernel"][0, 0].sum(0)
    np.testing.assert_allclose(
        terms["stage_1"], np.full(2, np.square(1 - mapped).mean()), rtol=1e-5
    )
    np.testing.assert_array_equal(terms["stage_2"], np.zeros(2))


def test_rejects_invalid_settings():
    with pytest.raises(ValueError, match=r"methods\.fitnets\.regressor='both'"):
        Fitnets(regressor="both")
    one = peers.outputs_of([np.zeros((2, 4, 4, 3))])
    for regressor in ("student", "teacher"):
        with pytest.raises(ValueError, match="stages='2', but the networks have 1"):
            Fitnets(regressor=regressor).init(jax.random.key(0), one, one)


def test_degenerate_inputs():
    peers.assert_robust_to_degenerate_inputs(Fitnets())
