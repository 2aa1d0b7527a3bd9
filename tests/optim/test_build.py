import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import optim, recipes
from kdjax.optim.schedules import Length


@pytest.mark.parametrize(
    ("restart_at", "expected"), [((3,), "params_recreated"), ((), "params_kept")]
)
def test_sgd_is_pytorchs(golden, restart_at, expected):
    arrays = golden("sgd_nesterov")
    with jax.enable_x64(True):
        rates = jnp.asarray(arrays["lr"])
        optimizer = optim.sgd(
            lambda step: rates[step],
            momentum=float(arrays["momentum"]),
            nesterov=True,
            weight_decay=float(arrays["weight_decay"]),
            restart_at=restart_at,
        )
        params = jnp.asarray(arrays["p0"])
        state = optimizer.init(params)
        for gradient, after in zip(arrays["grads"], arrays[expected], strict=True):
            updates, state = optimizer.update(jnp.asarray(gradient), state, params)
            params = optax.apply_updates(params, updates)
            np.testing.assert_allclose(params, after, rtol=1e-12)


def configured(**given):
    config = recipes.compose().optimizer
    config.update({"schedule": "constant", "learning_rate": 0.01, **given})
    return config


PARAMS = {
    "student": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)},
    "methods": {"kd": {"scale": jnp.ones(3)}},
}


def drawn(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), PARAMS
    )


def trained(optimizer, steps=3, **extra):
    """Returns the parameters after some updates by drawn gradients."""

    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params, **extra)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, optimizer.init(PARAMS)
    for seed in range(steps):
        params, state = step(params, state, drawn(seed))
    return params


def assert_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": "adamw"}, optax.adamw(0.01, weight_decay=5e-4)),
        (
            {"name": "lamb", "arguments": "b1=0.8, eps=1e-5"},
            optax.lamb(0.01, b1=0.8, eps=1e-5, weight_decay=5e-4),
        ),
        (
            {"name": "lion", "weight_decay": 0.1, "weight_decay_of": "kernels"},
            optax.lion(0.01, weight_decay=0.1, mask=optim.kernels),
        ),
        (
            {"name": "optax.adam", "weight_decay": 0.1},
            optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.01)),
        ),
        (
            {"name": "optax.contrib.muon", "weight_decay_of": "kernels"},
            optax.contrib.muon(
                0.01, weight_decay=5e-4, weight_decay_mask=optim.kernels
            ),
        ),
        (
            {"clip_norm": 0.5},
            optax.chain(
                optax.clip_by_global_norm(0.5),
                optax.add_decayed_weights(5e-4),
                optax.sgd(0.01, 0.9, nesterov=True),
            ),
        ),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else "",
)
def test_optimizers_by_name_are_those_of_optax(fields, expected):
    built, _ = optim.build(configured(**fields), Length(1, 3))
    assert_close(trained(built), trained(expected))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_norms_and_biases_can_be_left_without_decay(name):
    """Without a gradient, what decays is what moves."""
    built, _ = optim.build(
        configured(name=name, weight_decay=0.1, weight_decay_of="kernels"), Length(1, 3)
    )
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = built.update(zeros, built.init(PARAMS), PARAMS)
    moved = jax.tree.map(lambda x: bool(jnp.any(x != 0)), updates)
    assert moved == {
        "student": {"kernel": True, "bias": False},
        "methods": {"kd": {"scale": False}},
    }


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_what_methods_learn_can_have_a_rate_of_its_own(name):
    slow, _ = optim.build(configured(name=name, methods_factor=0.1), Length(1, 1))
    own, _ = optim.build(configured(name=name), Length(1, 1))
    tenth, _ = optim.build(configured(name=name, learning_rate=0.001), Length(1, 1))
    found = trained(slow, steps=1)
    assert_close(found["student"], trained(own, steps=1)["student"])
    assert_close(found["methods"], trained(tenth, steps=1)["methods"])


def test_clipping_looks_at_the_sum_of_gradients_that_are_kept_apart():
    fields = {"clip_norm": 0.5, "momentum": 0.5}
    deltas = {"task": 0.0, "dot": 0.0}
    both, _ = optim.build(configured(**fields), Length(1, 1), deltas=deltas)
    one, _ = optim.build(configured(**fields), Length(1, 1))
    task, added = drawn(0), drawn(1)["student"]
    whole = task | {"student": optax.tree.add(task["student"], added)}
    found, _ = both.update(task, both.init(PARAMS), PARAMS, apart={"dot": added})
    expected, _ = one.update(whole, one.init(PARAMS), PARAMS)
    assert_close(found, expected)


def test_the_default_is_the_sgd_that_it_always_was():
    """To the bit, and with the same state, so that old runs resume."""
    config = recipes.compose().optimizer
    built, schedule = optim.build(config, Length(2, 2))
    plain = optim.sgd(
        schedule, momentum=0.9, nesterov=True, weight_decay=5e-4, restart_at=(2, 2)
    )
    assert jax.tree.structure(built.init(PARAMS)) == jax.tree.structure(
        plain.init(PARAMS)
    )
    jax.tree.map(np.testing.assert_array_equal, trained(built), trained(plain))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "adamww"}, "optimizer.name='adamww' is neither 'sgd' nor an optimi"),
        ({"name": "optax.chain"}, "optimizer.name='optax.chain' is neither"),
        ({"name": "os.system"}, "optimizer.name='os.system' is neither"),
        (
            {"name": "lion", "arguments": "b3=1"},
            r"arguments='b3=1': 'b3' is none of \[",
        ),
        ({"name": "lion", "arguments": "mask=None"}, "'mask' is none of"),
        ({"name": "lion", "arguments": "b1"}, "is not of the form name=value"),
        ({"name": "lion", "arguments": "b1=f()"}, "is not of the form name=value"),
        ({"name": "lion", "arguments": "b1='x'"}, "arguments=.* cannot be built: "),
        ({"name": "optax.lbfgs"}, "optimizer.name='optax.lbfgs' .* cannot be built"),
        ({"arguments": "b1=0.9"}, "but optimizer.name='sgd' has fields of its own"),
        ({"warm_up_epochs": 3.0}, "warm_up_epochs=3.0 is not less than epochs=3"),
    ],
)
def test_optimizers_that_cannot_be_built_are_refused(fields, message):
    optim.check(configured(), epochs=3)
    with pytest.raises(ValueError, match=message):
        optim.check(configured(**fields), epochs=3)
