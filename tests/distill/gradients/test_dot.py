import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import optim

RATE, DECAY = 0.05, 5e-4


def sgd(**settings):
    return optim.sgd(RATE, momentum=0.9, weight_decay=DECAY, **settings)


def test_updates_are_those_of_the_released_optimizer(golden):
    """Of parameters that both losses reach, or the task or the distillation alone.

    The latter start at 0, where the original's first step without decay is the same.
    """
    arrays = golden("dot")
    with jax.enable_x64(True):
        optimizer = sgd(nesterov=False, delta=0.075)
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
                distillation={"both": of["h_both"], "task": jnp.zeros(4)},
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
        sgd(nesterov=nesterov, restart_at=(2,), **delta)
        for delta in ({}, {"delta": 0.0})
    )
    with jax.enable_x64(True):
        params = {"student": jnp.ones((2, 3)), "methods": jnp.ones(3)}
        states = [one.init(params), two.init(params)]
        for _ in range(4):
            task = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), params)
            added = jnp.asarray(rng.normal(size=(2, 3)))
            summed = task | {"student": task["student"] + added}
            expected, states[0] = one.update(summed, states[0], params)
            found, states[1] = two.update(task, states[1], params, distillation=added)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
                found,
                expected,
            )
