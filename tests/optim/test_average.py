import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import train_state
from kdjax.optim import average
from kdjax.train_state import evaluated_variables, student_variables


@pytest.mark.parametrize("decay", [0.15, 0.99])
def test_the_average_follows_parameters_and_statistics(decay):
    """By d = min(decay, (1 + t) / (10 + t)) after t updates, from the start."""
    variables = {"params": {"w": jnp.ones(2)}, "batch_stats": {"mean": jnp.zeros(2)}}
    optimizer = optax.identity()
    state = train_state.create(variables, {}, optimizer, average=True)
    assert student_variables(state) == variables

    def train_step(state, frozen, batch):
        """Adds 1 to everything; sees no average."""
        assert state.batch_stats.keys() == {"student", "methods"}
        params, stats = (
            jax.tree.map(lambda x: x + 1, tree)
            for tree in (state.params, state.batch_stats)
        )
        state = state.replace(step=state.step + 1, params=params, batch_stats=stats)
        return state, {}

    step = jax.jit(average.follow(train_step, decay))
    expected = {"w": 1.0, "mean": 0.0}
    for done in (1, 2, 3):
        state, _ = step(state, None, None)
        kept = min(decay, (1 + done) / (10 + done))
        for name, start in (("w", 1), ("mean", 0)):
            expected[name] = kept * expected[name] + (1 - kept) * (start + done)
        found = evaluated_variables(state)
        for collection, name in (("params", "w"), ("batch_stats", "mean")):
            leaf = found[collection][name]
            np.testing.assert_allclose(leaf, [expected[name]] * 2, rtol=1e-6)
    np.testing.assert_array_equal(student_variables(state)["params"]["w"], [4, 4])


def test_what_does_not_move_stays_bitwise():
    drawn = jax.random.normal(jax.random.key(0), (1000,))
    variables = {"params": {"w": drawn}, "batch_stats": {}}
    state = train_state.create(variables, {}, optax.identity(), average=True)

    def train_step(state, frozen, batch):
        return state.replace(step=state.step + 1), {}

    step = jax.jit(average.follow(train_step, 0.99))
    for _ in range(20):
        state, _ = step(state, None, None)
    np.testing.assert_array_equal(evaluated_variables(state)["params"]["w"], drawn)


def test_without_an_average_the_student_is_evaluated():
    variables = {"params": {"w": jnp.ones(2)}, "batch_stats": {}}
    state = train_state.create(variables, {}, optax.identity())
    assert evaluated_variables(state) == variables
