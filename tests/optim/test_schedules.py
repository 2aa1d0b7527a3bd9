"""Learning rates against PyTorch's schedulers and Optax's."""

import jax
import numpy as np
import optax
import pytest

from kdjax import recipes
from kdjax.config import fields
from kdjax.optim import schedules
from kdjax.optim.schedules import Length

#: Of the golden numbers: four epochs of five steps.
LENGTH = Length(4, 5)


def optimizer(**given):
    config = recipes.compose().optimizer
    config.update(given)
    return config


def rates(config, length=LENGTH):
    schedule = jax.jit(schedules.build(config, length))
    return [float(schedule(step)) for step in range(length.steps)]


@pytest.mark.parametrize("warm", ["", "_warm"])
@pytest.mark.parametrize("name", ["constant", "steps", "cosine", "linear"])
def test_rates_are_pytorchs_with_and_without_a_warm_up(golden, name, warm):
    final = {"cosine": 0.02, "linear": 0.02}.get(name, 0.0)
    config = optimizer(
        schedule=name, warm_up_epochs=1.0 if warm else 0.0, final_factor=final
    )
    expected = golden("schedules")[name + warm]
    np.testing.assert_allclose(rates(config), expected, rtol=1e-5)


@pytest.mark.parametrize(("warm", "epochs"), [("", 0.0), ("_warm", 1.0)])
def test_one_cycle_is_pytorchs(golden, warm, epochs):
    config = optimizer(
        schedule="one_cycle",
        warm_up_epochs=epochs,
        warm_up_factor=0.04,
        final_factor=4e-6,
    )
    expected = golden("schedules")["one_cycle" + warm]
    np.testing.assert_allclose(rates(config), expected, rtol=1e-5, atol=1e-8)


def test_cosine_with_a_warm_up_is_that_of_optax():
    config = optimizer(schedule="cosine", warm_up_epochs=0.6, warm_up_factor=0.1)
    expected = optax.warmup_cosine_decay_schedule(0.01, 0.1, 3, 20)
    np.testing.assert_allclose(
        rates(config), [expected(step) for step in range(20)], rtol=1e-5
    )


@pytest.mark.parametrize("name", schedules.NAMES)
@pytest.mark.parametrize("length", [Length(1, 1), Length(1, 2), Length(2, 1)])
def test_shortest_trainings_have_rates(name, length):
    config = optimizer(schedule=name, warm_up_epochs=0.9 * length.epochs)
    found = rates(config, length)
    assert all(0 <= rate <= 0.1 + 1e-6 for rate in found)
    assert max(found) > 0


def test_the_field_has_every_schedule():
    assert set(fields.FIELDS["optimizer.schedule"].choices) == set(schedules.NAMES)


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
    assert schedules.drop_steps(lr_milestones, epochs, steps_per_epoch=10) == expected


def test_milestones_that_fall_on_one_step_multiply_the_rate_twice():
    schedule = schedules.build(optimizer(), Length(2, 10))
    found = [float(schedule(step)) for step in (0, 9, 10, 19)]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.001, 0.001], rtol=1e-6)


def test_the_ofd_recipe_has_the_published_schedule():
    config = recipes.compose()
    schedule = schedules.build(config.optimizer, Length(config.epochs, 391))
    steps = [0, 100 * 391 - 1, 100 * 391, 150 * 391 - 1, 150 * 391, 200 * 391 - 1]
    found = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)


@pytest.mark.parametrize(
    ("expected", "parts"),
    [("lr_init0", ["optimizer"]), ("lr_mhgd_init40", ["pretrain", "optimizer"])],
)
def test_rates_of_the_mhgd_recipe_are_the_authors(golden, expected, parts):
    """By epoch, those of the attention networks first."""
    config = recipes.compose("mhgd")
    settings = {
        "optimizer": (schedules.build, config.optimizer, config.epochs),
        "pretrain": (
            schedules.drops,
            config.pretrain.optimizer,
            config.pretrain.epochs,
        ),
    }
    found = []
    for part in parts:
        build, config, epochs = settings[part]
        schedule = build(config, Length(epochs, 1))
        found += [float(schedule(epoch)) for epoch in range(epochs)]
    np.testing.assert_allclose(found, golden("optim")[expected], rtol=1e-6)
