import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import optim, recipes


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


@pytest.mark.parametrize(
    ("lr_milestones", "epochs", "expected"),
    [
        ((0.5, 0.75), 200, (1000, 1500)),
        # epochs // 2 and epochs * 3 // 4.
        ((0.5, 0.75), 7, (30, 50)),
        ((0.3, 0.6, 0.8), 100, (300, 600, 800)),
        # A training of one epoch is not over before it begins.
        ((0.5, 0.75), 1, ()),
        ((0.5, 0.75), 2, (10, 10)),
    ],
)
def test_drops_are_at_the_start_of_whole_epochs(lr_milestones, epochs, expected):
    assert optim.drop_steps(lr_milestones, epochs, steps_per_epoch=10) == expected


def test_milestones_that_fall_on_one_step_multiply_the_rate_twice():
    config = recipes.compose().optimizer
    _, schedule = optim.build(config, epochs=2, steps_per_epoch=10)
    rates = [float(schedule(step)) for step in (0, 9, 10, 19)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.001, 0.001], rtol=1e-6)


def test_the_ofd_recipe_has_the_published_schedule():
    config = recipes.compose()
    _, schedule = optim.build(
        config.optimizer, epochs=config.epochs, steps_per_epoch=391
    )
    steps = [0, 100 * 391 - 1, 100 * 391, 150 * 391 - 1, 150 * 391, 200 * 391 - 1]
    rates = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)


@pytest.mark.parametrize(
    ("expected", "parts"),
    [("lr_init0", ["optimizer"]), ("lr_mhgd_init40", ["pretrain", "optimizer"])],
)
def test_rates_of_the_mhgd_recipe_are_the_authors(golden, expected, parts):
    """By epoch, those of the attention networks first."""
    config = recipes.compose("mhgd")
    settings = {
        "optimizer": (config.optimizer, config.epochs),
        "pretrain": (config.pretrain.optimizer, config.pretrain.epochs),
    }
    rates = []
    for part in parts:
        optimizer, epochs = settings[part]
        _, schedule = optim.build(optimizer, epochs=epochs, steps_per_epoch=1)
        rates += [float(schedule(epoch)) for epoch in range(epochs)]
    np.testing.assert_allclose(rates, golden("optim")[expected], rtol=1e-6)
