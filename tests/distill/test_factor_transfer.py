import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax.distill.factor_transfer import FactorTransfer
from tests.distill import peers

AUTHORS = {
    "reconstruction": "l1",
    "factor_transform": "flat_unit",
    "translator_batch_norm": False,
    "weight": 500.0,
}


def sides_of(student=(30, peers.OTHER), teacher=(20, peers.SAME)):
    return [peers.outputs_of(peers.maps_of(*side)) for side in (student, teacher)]


def pretrained_on(method, teacher):
    init = jax.jit(method.pretrain_init)
    return {"pretrained": init(jax.random.key(1), teacher)}


def test_layers_match_paper():
    student, teacher = sides_of()
    method = FactorTransfer()
    key = jax.random.key(0)
    made = jax.eval_shape(method.pretrain_init, key, teacher)
    widths = {
        part: [made["params"][part][f"conv{n}"]["kernel"].shape for n in (1, 2, 3)]
        for part in ("encoder", "decoder")
    }
    assert widths == {
        "encoder": [(3, 3, 64, 64), (3, 3, 64, 32), (3, 3, 32, 32)],
        "decoder": [(3, 3, 32, 32), (3, 3, 32, 64), (3, 3, 64, 64)],
    }
    assert made["params"]["encoder"].keys() == {"conv1", "conv2", "conv3"}
    variables = jax.eval_shape(method.init, key, student, teacher)
    translator = variables["params"]
    kernels = [translator[f"conv{n}"]["kernel"].shape for n in (1, 2, 3)]
    assert kernels == [(3, 3, 48, 48), (3, 3, 48, 32), (3, 3, 32, 32)]
    assert {"bn1", "bn2", "bn3"} < translator.keys()
    plain = jax.eval_shape(FactorTransfer(**AUTHORS).init, key, student, teacher)
    assert plain.keys() == {"params"}
    terms, stats = jax.eval_shape(
        lambda *given: method.loss(*given, student, teacher, None),
        variables,
        {"pretrained": made},
    )
    assert terms["factor"].shape == (8,)
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])


@pytest.mark.parametrize("given", [{}, AUTHORS])
def test_the_paraphraser_learns_to_reconstruct(given):
    # Maps of few directions, which fewer channels can hold.
    parts = np.abs(peers.maps_of(0, ((2, 4),))[0]) @ np.abs(
        np.random.RandomState(1).randn(2, 64)
    )
    teacher = peers.outputs_of([parts.astype("float32")])
    method = FactorTransfer(**given)
    variables = method.pretrain_init(jax.random.key(0), teacher)
    optimizer = optax.adam(1e-3)

    @jax.jit
    def step(params, state):
        def loss(params):
            terms, stats = method.pretrain_loss(
                {"params": params, "batch_stats": {}}, jax.random.key(0), teacher
            )
            assert stats == variables["batch_stats"]
            assert terms["reconstruction"].shape == (8,)
            return jnp.mean(terms["reconstruction"])

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    params = variables["params"]
    state = optimizer.init(params)
    values = []
    for _ in range(60):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < values[0] / 2


def test_the_student_learns_the_paraphrasers_factors():
    """A translator with the paraphraser's weights on the teacher's maps is at zero."""
    _, teacher = sides_of()
    method = FactorTransfer(translator_batch_norm=False)
    precomputed = pretrained_on(method, teacher)
    variables = {"params": precomputed["pretrained"]["params"]["encoder"]}
    loss = jax.jit(lambda *given: method.loss(*given, None))
    terms, stats = loss(variables, precomputed, teacher, teacher)
    assert stats == {}
    np.testing.assert_allclose(terms["factor"], np.zeros(8), atol=1e-7)


def test_rejects_invalid_settings():
    with pytest.raises(ValueError, match=r"factor_transfer\.reconstruction='l2'"):
        FactorTransfer(reconstruction="l2")
    with pytest.raises(ValueError, match=r"factor_transfer\.factor_transform='relu'"):
        FactorTransfer(factor_transform="relu")
    with pytest.raises(ValueError, match=r"rate=0\.01 leaves none of the .* 64"):
        FactorTransfer(rate=0.01).pretrain_init(jax.random.key(0), sides_of()[1])
    sides = sides_of(student=(0, ((5, 1),)))
    with pytest.raises(ValueError, match=r"height and width \(1, 1\): 'flat_unit'"):
        FactorTransfer().init(jax.random.key(0), *sides)
    init = FactorTransfer(**AUTHORS).init
    assert jax.eval_shape(init, jax.random.key(0), *sides)


def test_degenerate_inputs():
    method = FactorTransfer()
    precomputed = pretrained_on(method, sides_of()[1])
    peers.assert_robust_to_degenerate_inputs(method, precomputed=precomputed)
