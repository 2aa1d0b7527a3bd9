"""What wide residual networks drop in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.models import wide_resnet


@pytest.fixture(scope="module")
def image():
    return jnp.asarray(np.random.default_rng(0).normal(size=(16, 8, 8, 3)), "float32")


@pytest.mark.parametrize("rate", models.rates("wrn_10_1"))
def test_rates_change_nothing_but_the_training(rate, image):
    plain = models.build("wrn_10_1", 10)
    variables = plain.init(jax.random.key(0), image[:1], train=False)
    network = models.build("wrn_10_1", 10, **{rate: 0.5})

    @jax.jit
    def trained(key):
        outputs, _ = network.apply(
            variables, image, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return outputs[0]

    first, again, other = (trained(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    evaluated, expected = (
        jax.jit(lambda x, n=n: n.apply(variables, x, train=False)[0])(image)
        for n in (network, plain)
    )
    np.testing.assert_array_equal(evaluated, expected)


def test_stochastic_depth_leaves_out_or_scales_up_the_branch_of_an_example(image):
    def block(rate):
        return wide_resnet.Block(3, 1, jnp.float32, None, stochastic_depth=rate)

    variables = block(0.0).init(jax.random.key(0), image, train=True)

    def branch(rate):
        (found, _), _ = block(rate).apply(
            variables,
            image,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )
        return np.asarray(found - image)

    whole, dropped = branch(0.0), branch(0.25)
    kept = np.any(dropped, axis=(1, 2, 3))
    assert 4 <= kept.sum() < 16
    np.testing.assert_allclose(dropped[kept], whole[kept] / 0.75, rtol=1e-5, atol=1e-5)


def test_depth_makes_stochastic_depth_rise_to_its_rate(monkeypatch, image):
    found = []
    original = wide_resnet.Block

    def recorded(*args, stochastic_depth, **kwargs):
        found.append(stochastic_depth)
        return original(*args, stochastic_depth=stochastic_depth, **kwargs)

    monkeypatch.setattr(wide_resnet, "Block", recorded)
    network = models.build("wrn_16_1", 10, stochastic_depth=0.6)
    jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), image[:1])
    np.testing.assert_allclose(found, np.arange(1, 7) / 10)
