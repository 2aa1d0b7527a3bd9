import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import optim
from kdjax.distill.gradients.clip import clip_to_task


def variables(arrays, name):
    return {i: jnp.asarray(arrays[f"{name}{i}"]) for i in range(3)}


@pytest.mark.parametrize("epoch", [0, 1, 2, 5, 18, 40])
def test_clipped_gradients_match_authors(golden, epoch):
    arrays = golden("optim")
    with jax.enable_x64(True):
        found = clip_to_task(
            variables(arrays, "g_task"), variables(arrays, "g_dist"), epoch=epoch
        )
        for i, gradient in found.items():
            decayed = gradient + arrays["wd"] * arrays[f"w{i}"]
            expected = arrays[f"g_total{i}_epoch{epoch}"]
            np.testing.assert_allclose(decayed, expected, rtol=1e-10)


def test_two_updates_match_authors(golden):
    """Clipping in epochs 0 and 1, then SGD with the decay outside of it."""
    arrays = golden("optim")
    optimizer = optim.sgd(
        0.1, momentum=0.9, nesterov=True, weight_decay=float(arrays["wd"])
    )
    with jax.enable_x64(True):
        params = variables(arrays, "w")
        state = optimizer.init(params)
        start = params
        for epoch in (0, 1):
            gradient = clip_to_task(
                variables(arrays, "g_task"), variables(arrays, "g_dist"), epoch=epoch
            )
            # The golden totals hold the decay of the first variables in both steps.
            updates, state = optimizer.update(gradient, state, start)
            params = optax.apply_updates(params, updates)
            for i, value in params.items():
                expected = arrays[f"w{i}_after_step{epoch + 1}"]
                np.testing.assert_allclose(value, expected, rtol=1e-10)


def test_small_distillation_gradients_are_added_whole():
    task, added = {"v": jnp.asarray([3.0, 4.0])}, {"v": jnp.asarray([0.3, -0.4])}
    found = clip_to_task(task, added, epoch=20)
    np.testing.assert_allclose(found["v"], [3.3, 3.6], rtol=1e-6)


@pytest.mark.parametrize(
    ("task", "added", "expected"),
    [(0.0, 0.0, 0.0), (0.0, 5.0, 0.0), (2.0, 0.0, 2.0)],
)
def test_variables_that_a_loss_does_not_reach(task, added, expected):
    found = clip_to_task(jnp.full(3, task), jnp.full(3, added), epoch=0)
    np.testing.assert_array_equal(found, np.full(3, expected))
