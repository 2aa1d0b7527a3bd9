import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import optim

RATE, DECAY = 0.05, 5e-4
DOT = {"task": -0.075, "dot": 0.075}


def sgd(*, decay=DECAY, **settings):
    return optim.sgd(RATE, momentum=0.9, weight_decay=decay, **settings)


def test_updates_are_those_of_dot(golden):
    """Of parameters that both losses reach, or the task or the distillation alone.

    The latter start at 0, where the original's first step without decay is the same.
    """
    arrays = golden("dot")
    with jax.enable_x64(True):
        optimizer = sgd(nesterov=False, deltas=DOT)
        student = {name: jnp.asarray(arrays[name][0]) for name in ("both", "task")}
        params = {"student": student, "methods": jnp.asarray(arrays["distillation"][0])}
        state = optimizer.init(params)
        for step in range(6):
            of = {
                name: jnp.asarray(arrays[name][step]) for name in arrays if "_" in name
            }
            updates, state = optimizer.update(
                {
                    "student": {"both": of["g_both"], "task": of["g_task"]},
                    "methods": of["h_distillation"],
                },
                state,
                params,
                apart={"dot": {"both": of["h_both"], "task": jnp.zeros(4)}},
            )
            params = optax.apply_updates(params, updates)
            found = params["student"] | {"distillation": params["methods"]}
            for name, value in found.items():
                expected = arrays[name][step + 1]
                np.testing.assert_allclose(value, expected, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_equal_momenta_are_sgd_on_the_sum(nesterov):
    """Also where a milestone resets them."""
    rng = np.random.default_rng(0)
    one, two = (
        sgd(nesterov=nesterov, restart_at=(2,), deltas=deltas)
        for deltas in ({}, {"task": 0.0, "dot": 0.0})
    )
    with jax.enable_x64(True):
        params = {"student": jnp.ones((2, 3)), "methods": jnp.ones(3)}
        states = [one.init(params), two.init(params)]
        for _ in range(4):
            task = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), params)
            added = jnp.asarray(rng.normal(size=(2, 3)))
            summed = task | {"student": task["student"] + added}
            expected, states[0] = one.update(summed, states[0], params)
            found, states[1] = two.update(task, states[1], params, apart={"dot": added})
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
                found,
                expected,
            )


#: Of DeepKD, and as its released code has them, which gives the task the momentum of
#: the target class.
DEEPKD = {"task": 0.075, "kd/target_class": -0.075, "kd/non_target_class": 0.075}
RELEASED = DEEPKD | {"task": -0.075}


def steps_of_deepkd(golden, deltas, decay):
    """Returns a vector after each of six updates with the drawn gradients."""
    arrays = golden("deepkd")
    optimizer = sgd(nesterov=False, deltas=deltas, decay=decay)
    params = {"student": jnp.asarray(arrays["released"][0]), "methods": {}}
    state, found = optimizer.init(params), []
    for task, target, others in zip(
        *(arrays[f"g_{name}"] for name in ("task", "target", "non_target")), strict=True
    ):
        apart = {"kd/target_class": target, "kd/non_target_class": others}
        updates, state = optimizer.update(
            {"student": jnp.asarray(task), "methods": {}},
            state,
            params,
            apart=jax.tree.map(jnp.asarray, apart),
        )
        params = optax.apply_updates(params, updates)
        found.append(params["student"])
    return np.stack(found)


def test_updates_are_those_of_deepkd_but_for_the_task_s_momentum(golden):
    """Without weight decay, which the original takes of parameters half updated."""
    with jax.enable_x64(True):
        released, ours = (steps_of_deepkd(golden, x, 0.0) for x in (RELEASED, DEEPKD))
    np.testing.assert_allclose(released, golden("deepkd")["released"][1:], rtol=1e-12)
    # The first updates have no momentum yet.
    np.testing.assert_allclose(ours[0], released[0], rtol=1e-12)
    assert np.abs(ours[1] - released[1]).max() > 1e-3


def test_each_gradient_of_deepkd_has_the_momentum_of_the_paper(golden):
    """As if three optimizers moved the same vector, one of which decays it."""
    arrays = golden("deepkd")
    with jax.enable_x64(True):
        found = steps_of_deepkd(golden, DEEPKD, DECAY)
    x, momenta = arrays["released"][0], np.zeros((3, 4))
    factors = 0.9 + np.asarray([[0.075], [-0.075], [0.075]])
    for step, value in enumerate(found):
        drawn = [arrays[f"g_{name}"][step] for name in ("task", "target", "non_target")]
        drawn[0] = drawn[0] + DECAY * x
        momenta = factors * momenta + np.stack(drawn)
        x = x - RATE * momenta.sum(axis=0)
        np.testing.assert_allclose(value, x, rtol=1e-12)
