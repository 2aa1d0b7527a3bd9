"""What stands around any optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import optim
from kdjax.optim.transforms import without


def drawn(seed):
    rng = np.random.default_rng(seed)
    draw = {name: jnp.asarray(rng.normal(size=(2, 3))) for name in ("stem", "last")}
    return {"student": draw, "methods": {"kd": jnp.asarray(rng.normal(size=4))}}


@pytest.mark.parametrize("name", ["sgd", "dot", "adamw"])
def test_modules_that_are_left_out_stay_as_they_are(name):
    """And the others move as if those were not there."""
    if name == "adamw":
        inner = optax.with_extra_args_support(optax.adamw(0.1, weight_decay=0.1))
    else:
        deltas = {"task": -0.05, "dot": 0.05} if name == "dot" else None
        inner = optim.sgd(
            0.1, momentum=0.9, nesterov=True, weight_decay=0.1, deltas=deltas
        )
    params = drawn(0)
    few = params | {"student": {"stem": params["student"]["stem"]}}
    optimizer = without(inner, ("last",))
    states = [optimizer.init(params), inner.init(few)]
    assert jax.tree.map(jnp.shape, states[0]) == jax.tree.map(jnp.shape, states[1])
    for step in range(1, 4):
        gradient, apart = drawn(step), drawn(10 + step)["student"]
        extra = {"apart": {"dot": apart}} if name == "dot" else {}
        found, states[0] = optimizer.update(gradient, states[0], params, **extra)
        gradient["student"].pop("last")
        extra = {"apart": {"dot": {"stem": apart["stem"]}}} if extra else {}
        expected, states[1] = inner.update(gradient, states[1], few, **extra)
        np.testing.assert_array_equal(found["student"].pop("last"), 0)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        few = optax.apply_updates(few, expected)
        params["student"]["stem"] = few["student"]["stem"]
        params["methods"] = few["methods"]
