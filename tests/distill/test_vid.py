import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax.distill import vid
from tests.distill import peers


@pytest.fixture(scope="module")
def started():
    """Stages of other widths; the teacher's sizes are larger, equal and smaller."""
    student = peers.outputs_of(peers.maps_of(10, ((3, 4), (4, 4), (5, 4))))
    teacher = peers.outputs_of(peers.maps_of(20, ((6, 8), (7, 4), (8, 2))))
    student, teacher = jax.tree.map(lambda x: x.astype(jnp.float32), (student, teacher))
    method = vid.Vid()
    variables = jax.jit(method.init)(jax.random.key(0), student, teacher)
    return method, variables, student, teacher


def test_variances_start_at_five_and_are_trained(started):
    method, variables, student, teacher = started
    for stage, width in (("stage_1", 6), ("stage_2", 7), ("stage_3", 8)):
        raw = variables["params"][stage]["raw_variance"]
        np.testing.assert_allclose(
            jax.nn.softplus(raw) + 1e-5, np.full(width, 5), rtol=1e-6
        )

    @jax.jit
    def loss(params):
        terms, stats = method.loss({"params": params}, {}, student, teacher, None)
        assert stats == {}
        assert all(term.shape == (8,) for term in terms.values())
        return sum(map(jnp.mean, terms.values()))

    params, optimizer = variables["params"], optax.sgd(0.5)
    state = optimizer.init(params)
    step = jax.jit(jax.value_and_grad(loss))
    first, _ = step(params)
    for _ in range(20):
        last, gradient = step(params)
        updates, state = optimizer.update(gradient, state)
        params = optax.apply_updates(params, updates)
    assert last < first
    for before, after in zip(
        *map(jax.tree.leaves, (variables["params"], params)), strict=True
    ):
        assert np.any(before != after)
    # The maps have variance 1 or less; channel by channel the variances go there.
    assert np.all(
        params["stage_2"]["raw_variance"]
        < variables["params"]["stage_2"]["raw_variance"]
    )


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_losses_are_float32_and_finite(started, scale):
    method, variables, student, teacher = started
    half = jax.tree.map(lambda x: (scale * x).astype(jnp.bfloat16), (student, teacher))
    loss = jax.jit(lambda *given: method.loss(variables, {}, *given, None))
    terms, _ = loss(*half)
    assert all(term.dtype == jnp.float32 for term in terms.values())
    assert all(np.all(np.isfinite(term)) for term in terms.values())


def test_rejects_invalid_settings(started):
    _, _, student, teacher = started
    with pytest.raises(ValueError, match=r"methods\.vid\.variance=0\.0 is not above"):
        vid.Vid(variance=0.0)
    less = teacher._replace(
        features=teacher.features._replace(block=teacher.features.block[:2])
    )
    with pytest.raises(ValueError, match="vid needs as many stages in both networks"):
        vid.Vid().init(jax.random.key(0), student, less)
